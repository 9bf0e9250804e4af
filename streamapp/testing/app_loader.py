"""An app imported as by a new process: its modules run anew, and nothing of it is left behind.

A worker that is restarted has lost what its modules kept in memory; a test that kept it would not see the loss.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from streamapp import app as service
from streamapp.app import App, use
from streamapp.driver.app import EngineApp
from streamapp.driver.tables.after_commit import after_commit
from streamapp.errors import ConfigurationError
from streamapp.settings import PREFIX

#: The service's own app.
SERVICE = "streamapp.app"
#: Top-level packages that an app discovers, whatever directory they are in.
_DISCOVERED = ("agents", "tables")
#: What pytest rewrites are tests, and they go on while an app is loaded again.
_OF_A_TEST = "AssertionRewritingHook"
_STDLIB = sysconfig.get_path("stdlib") + os.sep


class AppLoader:
    """Imports of one app, one after the other. `close()` puts everything back that was there before."""

    def __init__(self, target: str, settings: Mapping[str, Any]) -> None:
        self.target = target
        self._environment = {f"{PREFIX}{name.upper()}": str(value) for name, value in settings.items()}
        self._modules = dict(sys.modules)
        self._handlers = dict(after_commit.handlers)
        self._service = service.__dict__.get("app")
        self.module: ModuleType | None = None

    def load(self) -> EngineApp:
        """The app, made anew. Raises `ConfigurationError` when the target names none."""
        self._forget()
        before = {name: value for name, value in os.environ.items() if name.startswith(PREFIX)}
        try:
            _replace_environment(before, self._environment)
            return self._loaded()
        finally:
            _replace_environment(self._environment, before)

    def _loaded(self) -> EngineApp:
        name, _, attribute = self.target.partition(":")
        if name == SERVICE:
            self.module = service
            return use(App())
        self.module = importlib.import_module(name)
        found = getattr(self.module, attribute or "app", None)
        if not isinstance(found, EngineApp):
            raise ConfigurationError(f"{self.target} is no streamapp.App. Name one as MODULE or MODULE:NAME.")
        return found

    def _forget(self) -> None:
        gone = set(self._of_the_app())
        for name in gone:
            sys.modules.pop(name, None)
        for name, handler in list(after_commit.handlers.items()):
            if handler.__module__ in gone:
                del after_commit.handlers[name]
        service.__dict__.pop("app", None)

    def _of_the_app(self) -> Iterator[str]:
        """Modules that the app's code is in: beside the target's, and not a test's or an installed library's."""
        top = self.target.partition(":")[0].partition(".")[0]
        tops, root = {top, *_DISCOVERED}, _directory_of(top)
        for name, module in list(sys.modules.items()):
            first = name.partition(".")[0]
            file = getattr(module, "__file__", None) or ""
            if first == "streamapp" or not (first in tops or (root is not None and file.startswith(root))):
                continue
            if first not in tops and _is_installed(file):
                continue
            if type(getattr(module, "__loader__", None)).__name__ != _OF_A_TEST:
                yield name

    def close(self) -> None:
        """Put back modules, handlers and the service's app as they were."""
        for name in list(self._of_the_app()):
            sys.modules.pop(name, None)
        for name, module in self._modules.items():
            sys.modules.setdefault(name, module)
        after_commit.handlers.clear()
        after_commit.handlers.update(self._handlers)
        service.__dict__.pop("app", None)
        if self._service is not None:
            service.__dict__["app"] = self._service


def _replace_environment(old: Mapping[str, str], new: Mapping[str, str]) -> None:
    for name in old:
        os.environ.pop(name, None)
    os.environ.update(new)


def _directory_of(top: str) -> str | None:
    """Where a top-level module is, unless that is where libraries are installed."""
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin is None:
        return None
    file = Path(spec.origin)
    root = str(file.parent.parent if file.name == "__init__.py" else file.parent) + os.sep
    return None if _is_installed(root) else root


def _is_installed(path: str) -> bool:
    return (
        f"{os.sep}site-packages{os.sep}" in path or f"{os.sep}dist-packages{os.sep}" in path or path.startswith(_STDLIB)
    )
