"""The wheel that `make wheel` builds: with the compiled modules in it, and used where it is installed."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path
from textwrap import dedent

import pytest

from streamapp import native

pytestmark = pytest.mark.builds

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    options = ("--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation")
    command = [sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", str(directory), str(REPOSITORY)]
    subprocess.run(command, check=True, timeout=200)
    (built,) = directory.iterdir()
    return built


@pytest.mark.skipif(native.unfit() is not None, reason="nothing is compiled here, so the wheel is the Python itself")
def test_the_wheel_has_what_is_compiled_and_it_runs_where_it_is_installed(wheel: Path, tmp_path: Path) -> None:
    assert "none-any" not in wheel.name
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path)
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {"streamapp"}
    wanted = [*(native.compiled(name) for name in native.MODULES), native.record_file()]
    assert {f"streamapp/{path.relative_to(native.ROOT).as_posix()}" for path in wanted} <= names
    # Unpacked, every file is as old as the unpacking, and there is no compiler to be found.
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "PATH": "/nonexistent", "STREAMAPP_PURE": "0"}
    told = subprocess.run(
        [
            sys.executable,
            "-c",
            "import streamapp.engine.task as task, streamapp.native as n; print(task.__file__, n.reason)",
        ],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout.split()
    assert told == [str(tmp_path / native.compiled("streamapp.engine.task").relative_to(REPOSITORY)), "None"]


PROJECT = {
    "shopapp.py": """
        from streamapp import App
        app = App("shop", autodiscover=["agents", "tables"])
    """,
    "agents/__init__.py": "",
    "agents/orders.py": """
        from shopapp import app
        from tables.counts import counts

        @app.agent(app.topic("order"))
        async def count(stream):
            async for order in stream.events():
                counts[order.key] += 1
    """,
    "tables/__init__.py": "",
    "tables/counts.py": """
        from shopapp import app
        counts = app.Table("counts", default=int)
    """,
}
#: What an own project and the service find, with the wheel alone.
LOOK = """
import streamapp.native as native
from streamapp.app import App, use
from streamapp.cli.worker import loaded_app
from streamapp.errors import ConfigurationError

app = loaded_app("shopapp")
print(native.reason, sorted(app.agents), sorted(app.tables))
try:
    loaded_app(None)
except ConfigurationError as exc:
    print(exc)
"""


@pytest.mark.skipif(native.unfit() is not None, reason="nothing is compiled here, so the wheel is the Python itself")
def test_an_own_project_has_its_agents_and_no_service_comes_with_the_wheel(wheel: Path, tmp_path: Path) -> None:
    installed, project = tmp_path / "installed", tmp_path / "project"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    for name, text in PROJECT.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(dedent(text))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STREAMAPP_")}
    told = subprocess.run(
        [sys.executable, "-c", LOOK],
        cwd=project,
        env={**environment, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    found, _, refusal = told.stdout.partition("\n")
    assert found == "None ['agents.orders.count'] ['counts']"
    assert refusal.startswith("No service is registered: there is no agents/ in ")
