"""Compiles the modules of the hot path where they are, by Cython and a C compiler.

python -m streamapp.compilation          compile, unless what is compiled is up to date
python -m streamapp.compilation status   say what runs, and why
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence

from streamapp import native


def build() -> None:
    """Compile every module in place. Raises what Cython or the compiler raise; what was there is then gone."""
    from Cython.Build import cythonize
    from setuptools import Distribution, Extension

    native.record_file().unlink(missing_ok=True)
    for name in native.MODULES:
        native.compiled(name).unlink(missing_ok=True)
    home = native.ROOT.parent
    os.chdir(home)  # Cython takes the name of a package from the path as it is given
    extensions = [
        Extension(name, [str(native.source(name).relative_to(home))], extra_compile_args=["-O2", "-g0"])
        for name in native.MODULES
    ]
    with tempfile.TemporaryDirectory(prefix="streamapp-native-") as scratch:
        translated = cythonize(
            extensions,
            build_dir=scratch,
            # Annotations say what is meant, for people and for mypy; only a `.pxd` says what C is to rely on.
            compiler_directives={"language_level": 3, "annotation_typing": False, "initializedcheck": False},
            quiet=True,
        )
        work = Distribution({"name": "streamapp-native", "ext_modules": translated}).get_command_obj("build_ext")
        work.build_temp, work.build_lib, work.parallel = scratch, str(home), os.cpu_count()
        work.ensure_finalized()
        work.run()
    native.record()


def main(arguments: Sequence[str]) -> int:
    """The command; see the module. To go on without is no failure: it is slower, and nothing else."""
    if list(arguments) == ["status"]:
        why = native.reason
        print(f"the Python itself runs: {why}" if why else f"{len(native.MODULES)} modules run compiled")
        return 0
    if native.unfit() is None:
        return 0
    print(f"compiling {len(native.MODULES)} modules of the hot path (about half a minute)", flush=True)
    try:
        build()
    except Exception as exc:  # noqa: BLE001 - whatever it is, the Python is there
        print(
            f"They could not be compiled: {type(exc).__name__}: {exc}\nThe Python itself runs, at about half the "
            "speed. Install a C compiler and Python's headers, and run `make setup` again.",
            file=sys.stderr,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
