"""Where the modules of an app are found: an own project's in the working directory, the service's beside `streamapp`.

Faust's convention is a package `agents` in the project, and the service has one of that name, too. The service lies
beside `streamapp` in its repository, or where STREAMAPP_SERVICE says, as in its container. It is not installed with
`streamapp`. Each app gets its own packages, or is refused.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from streamapp.errors import ConfigurationError, StreamAppError

#: The service's packages of agents and tables.
OF_THE_SERVICE = ("agents", "tables")
_BESIDE = Path(__file__).resolve().parents[2]


def service_root(configured: Path | None) -> Path:
    """The directory that holds the service's packages: STREAMAPP_SERVICE, or the one that `streamapp` is in."""
    return _BESIDE if configured is None else configured.resolve()


def put_first(directory: Path) -> None:
    """Look for modules in this directory before any other, from here on."""
    sys.path[:] = [str(directory), *(entry for entry in sys.path if entry != str(directory))]


@contextmanager
def searched_first(directory: Path) -> Iterator[None]:
    """Look for modules in this directory before any other, in this block."""
    before = list(sys.path)
    put_first(directory)
    try:
        yield
    finally:
        sys.path[:] = before


def find_app(target: str) -> tuple[Any, str]:
    """What `MODULE`, `MODULE:NAME` or `MODULE.NAME` names, and its module; without a name the module's `app`.

    Raises `ConfigurationError` that says what there is instead.
    """
    name, _, attribute = target.partition(":")
    remedy = "Start the worker in the folder it is in; --app is MODULE or MODULE:NAME."
    parent, _, last = name.rpartition(".")
    if parent and not attribute and not _exists(name):
        name, attribute = parent, last
    module = imported(name, remedy)
    found = getattr(module, attribute or "app", None)
    if found is None:
        raise ConfigurationError(
            f"{name} ({module.__file__}) has nothing called {attribute or 'app'}. Nothing was started. Name the app as "
            f"--app {name}:NAME."
        )
    return found, name


def imported(name: str, remedy: str) -> ModuleType:
    """The module. Whatever its import raises is a `ConfigurationError`; `remedy` is for one that does not exist."""
    try:
        return importlib.import_module(name)
    except StreamAppError:
        raise
    except ModuleNotFoundError as exc:
        if exc.name is not None and f"{name}.".startswith(f"{exc.name}."):
            raise ConfigurationError(
                f"There is no module {exc.name}, neither in {Path.cwd()} nor where Python looks for others. Nothing "
                f"was started. {remedy}"
            ) from exc
        raise ConfigurationError(_raised(name, exc)) from exc
    except Exception as exc:
        raise ConfigurationError(_raised(name, exc)) from exc


def _exists(name: str) -> bool:
    """Whether there is such a module; one that raises when it is looked for is one, and says so when it is imported."""
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False
    except Exception:  # noqa: BLE001 - its import tells
        return True


def _raised(target: str, exc: Exception) -> str:
    if isinstance(exc, SyntaxError):
        where = f" ({exc.filename}, line {exc.lineno})"
    else:
        last = traceback.extract_tb(exc.__traceback__)[-1:]
        where = "".join(f" ({frame.filename}, line {frame.lineno})" for frame in last)
    said = exc.msg if isinstance(exc, SyntaxError) else str(exc)
    return (
        f"{target} cannot be imported, so its agents would not run: {type(exc).__name__}: {said}{where}. Nothing was "
        "started. Mend the module, or install what it misses."
    )


def import_discovered(name: str, *, is_the_service: bool, root: Path) -> None:
    """Import a module that an app discovers. `ConfigurationError` where it cannot be, or is another app's.

    `root`: the directory of the service.
    """
    if is_the_service and name in OF_THE_SERVICE and not (root / name).is_dir():
        raise ConfigurationError(
            f"No service is registered: there is no {name}/ in {root}. Nothing was started. Name an app of your own "
            "with --app MODULE, or run the service from its repository or its container (STREAMAPP_SERVICE names the "
            "directory of its agents and tables)."
        )
    module = imported(name, "Start the worker in the folder it is in, or name others in App(autodiscover=[...]).")
    if name.partition(".")[0] in OF_THE_SERVICE and is_the_service != _is_of_the_service(module, root):
        raise ConfigurationError(_another_apps(name, module, is_the_service=is_the_service))


def searched_for(*, is_the_service: bool, origin: Any, root: Path) -> Path | None:
    """The directory to look in first for what an app discovers; None: where Python looks anyway.

    `origin`: the target of a command such as `--app shop`, which is looked for in the working directory.
    """
    return root if is_the_service else (Path.cwd() if origin else None)


def _is_of_the_service(module: ModuleType, root: Path) -> bool:
    file = getattr(module, "__file__", None)
    top = module.__name__.partition(".")[0]
    return file is not None and Path(file).resolve().is_relative_to(root / top)


def _another_apps(name: str, module: ModuleType, *, is_the_service: bool) -> str:
    where = getattr(module, "__file__", None) or ", ".join(getattr(module, "__path__", ())) or "nowhere"
    if is_the_service:
        return (
            f"The service's package {name} was imported from {where}, which is another project's. Nothing was started. "
            "Start the service where nothing imports that one first, or name the project's app with --app."
        )
    return (
        f"The app discovers {name}, and the only one found is the service's own, in {where}: its agents are not this "
        f"app's. Nothing was started. Start the worker in the folder that {name} of the project is in, or name it with "
        f"its package, such as App(autodiscover=['project.{name}'])."
    )


def nothing_to_run(app_id: str, modules: list[str]) -> str:
    """What is wrong with a worker without an agent, timer or task: it would be ready, and consume nothing, for ever."""
    looked_at = f", in {', '.join(modules)} neither" if modules else ""
    return (
        f"The app {app_id} has no agent, timer or task{looked_at}: this worker would consume nothing. Nothing was "
        "started. Say in App(autodiscover=[...]) which modules its agents are in, and start the worker in the folder "
        "these modules are in."
    )
