"""Compiles the modules of the hot path into the wheel. Without a C compiler the wheel is the Python itself."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CompiledModules(BuildHookInterface):
    """See the module. An editable install is not compiled here: `python -m streamapp.compilation` does it in place."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        sys.path.insert(0, self.root)
        from streamapp import compilation, native

        compilation.main([])
        if native.unfit() is not None:
            return
        build_data["pure_python"], build_data["infer_tag"] = False, True
        paths = [*(native.compiled(name) for name in native.MODULES), native.record_file()]
        build_data["artifacts"] += [f"/{path.relative_to(Path(self.root)).as_posix()}" for path in paths]
