"""The Java peer's class path and compiler: jars pinned like the broker's, compiled with ecj on the same Java.

The Java that comes with the broker has no compiler of its own.
"""

from __future__ import annotations

import functools
import subprocess
from importlib import resources
from pathlib import Path

from streamapp.embedded import jars
from streamapp.embedded.kafka import java
from streamapp.errors import StreamAppError

_COMPILE_BOUND_S = 60.0


def fetch(on_progress: jars.OnProgress | None = None) -> list[Path]:
    """The class path, and the compiler last; what is missing is fetched."""
    own = jars.parsed(resources.files("bench").joinpath("jars.txt").read_text())
    return [*jars.ensure(on_progress=on_progress), *jars.ensure(on_progress=on_progress, jars=own)]


@functools.cache
def compiled(directory: Path) -> list[str]:
    """Compile the peer into `directory`; the command that runs it, but for the heap and the class."""
    *libraries, compiler = fetch()
    class_path = ":".join(map(str, libraries))
    program, version = java()
    source = Path(__file__).with_name("peers") / "Streams.java"
    directory.mkdir(parents=True, exist_ok=True)
    ran = subprocess.run(
        [program, "-jar", compiler, "-21", "-nowarn", "-cp", class_path, "-d", directory, source],
        capture_output=True,
        text=True,
        timeout=_COMPILE_BOUND_S,
        check=False,
    )
    if ran.returncode:
        raise StreamAppError(f"{source.name} does not compile:\n{ran.stdout}{ran.stderr}")
    native = ["--enable-native-access=ALL-UNNAMED", "--sun-misc-unsafe-memory-access=allow"] if version >= 24 else []
    return [str(program), *native, "-cp", f"{directory}:{class_path}"]
