"""Each app finds its own agents and tables, wherever the worker is started; one without any work says so and ends."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

#: The command as it is installed: unlike `python -m`, it does not look for modules in the working directory.
COMMAND = str(Path(sys.executable).with_name("streamapp"))

APP = 'from streamapp import App\napp = App("shop", autodiscover=["agents"])\n'
AGENT = """
import sys, tables
from {module} import app
print("own agents beside", tables.NAME, file=sys.stderr)

@app.agent(app.topic("order"))
async def add_up(stream):
    async for _ in stream:
        pass
"""
OWN: Mapping[str, str] = {
    "shopapp.py": APP,
    "agents/__init__.py": "",
    "agents/orders.py": AGENT.format(module="shopapp"),
    "tables.py": "NAME = 'own tables'\n",
}


def project(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def run(directory: Path, *arguments: str, command: tuple[str, ...] = (COMMAND,)) -> tuple[int, str]:
    """A worker that ends at the latest when no broker answers; what it says has no stack trace."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("STREAMAPP_", "PYTHON"))}
    settings = {"STREAMAPP_BROKER": "127.0.0.1:1", "STREAMAPP_STORE": "memory"}
    ended = subprocess.run(
        [*command, "worker", "--without-web", "--wait", "0", *arguments],
        env=plain | settings,
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "Traceback" not in ended.stderr
    return ended.returncode, ended.stderr


def connects(ended: tuple[int, str]) -> bool:
    """Whether it got as far as asking for a broker, which there is none of."""
    return ended[0] == 1 and "Gave up connecting to Kafka" in ended[1]


@pytest.mark.parametrize("target", ["shopapp", "shopapp:app", "shopapp.app"])
def test_an_own_project_finds_its_own_agents_and_tables_in_the_working_directory(tmp_path: Path, target: str) -> None:
    ended = run(project(tmp_path, OWN), "--app", target)
    assert connects(ended), ended[1]
    assert "own agents beside own tables" in ended[1]


def test_an_app_in_a_package_finds_the_agents_of_the_working_directory_and_of_its_package(tmp_path: Path) -> None:
    files = {
        **OWN,
        "pkg/__init__.py": "",
        "pkg/main.py": APP.replace('["agents"]', '["agents", "pkg.more"]'),
        "pkg/more.py": "import sys\nprint('more of the package', file=sys.stderr)\n",
        "agents/orders.py": AGENT.format(module="pkg.main"),
    }
    ended = run(project(tmp_path, files), "--app", "pkg.main")
    assert connects(ended), ended[1]
    assert "own agents beside own tables" in ended[1] and "more of the package" in ended[1]


def test_faust_finds_them_as_well(tmp_path: Path) -> None:
    files = {**OWN, "agents/orders.py": AGENT.format(module="shopapp") + "\nsys.exit(7)\n"}
    faust = str(Path(sys.executable).with_name("faust"))
    code, text = run(project(tmp_path, files), command=(faust, "-A", "shopapp"))
    assert (code, "own agents beside own tables" in text) == (7, True), text


def test_the_agents_of_the_service_are_not_those_of_an_app(tmp_path: Path) -> None:
    code, text = run(project(tmp_path, {"shopapp.py": APP}), "--app", "shopapp")
    assert code == 2
    assert "The app discovers agents, and the only one found is the service's own" in text
    assert "Start the worker in the folder that agents of the project is in" in text


@pytest.mark.parametrize("command", [(COMMAND,), (sys.executable, "-m", "streamapp.cli")], ids=["script", "module"])
def test_the_service_finds_its_own_where_another_project_is(tmp_path: Path, command: tuple[str, ...]) -> None:
    ended = run(
        project(tmp_path, {**OWN, "agents/__init__.py": "raise RuntimeError('not the service')"}), command=command
    )
    assert connects(ended), ended[1]


def test_a_package_that_took_the_place_of_the_services_is_refused(tmp_path: Path) -> None:
    files = {"shopapp.py": "import agents\nfrom streamapp.app import App, use\napp = use(App())\n", "agents.py": ""}
    code, text = run(project(tmp_path, files), "--app", "shopapp")
    assert code == 2
    assert f"The service's package agents was imported from {tmp_path / 'agents.py'}" in text


@pytest.mark.parametrize("declared", ['App("shop")', 'App("shop", autodiscover=["more"])'])
def test_a_worker_without_anything_to_run_says_so_and_ends(tmp_path: Path, declared: str) -> None:
    files = {"shopapp.py": f"from streamapp import App\napp = {declared}\nt = app.Table('t')\n", "more.py": ""}
    code, text = run(project(tmp_path, files), "--app", "shopapp")
    assert code == 2
    assert "The app shop has no agent, timer or task" in text
    assert ("in more" in text) is ("more" in declared)


def test_a_worker_with_only_a_timer_has_work(tmp_path: Path) -> None:
    text = "from streamapp import App\napp = App('shop')\n@app.timer(1)\nasync def tick(): ...\n"
    assert connects(run(project(tmp_path, {"shopapp.py": text}), "--app", "shopapp"))


@pytest.mark.parametrize(
    ("files", "target", "said"),
    [
        ({}, "nowhere", "There is no module nowhere, neither in "),
        ({"pkg/__init__.py": ""}, "pkg.main", "has nothing called main"),
        ({"shopapp.py": APP}, "shopapp:other", "has nothing called other"),
        ({"shopapp.py": "import nowhere\n"}, "shopapp", "shopapp cannot be imported, so its agents would not run"),
        ({"shopapp.py": "x = = 1\n"}, "shopapp", "SyntaxError"),
        ({"shopapp.py": "raise OSError('a disk')\n"}, "shopapp", "OSError: a disk ("),
        ({"shopapp.py": APP.replace("agents", "gone")}, "shopapp", "There is no module gone, neither in "),
        ({"shopapp.py": APP, "agents.py": "import gone\n"}, "shopapp", "agents cannot be imported"),
        (
            {"shopapp.py": APP, "agents/__init__.py": "", "agents/bad.py": "1/0"},
            "shopapp",
            "agents.bad cannot be imported",
        ),
    ],
)
def test_what_cannot_be_imported_is_named(tmp_path: Path, files: Mapping[str, str], target: str, said: str) -> None:
    code, text = run(project(tmp_path, files), "--app", target)
    assert code == 2
    assert said in text, text
