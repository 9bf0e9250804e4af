"""Workers as processes of their own: Faust's command line, a refused start, and kill -9 in the middle."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from signals import terminate

pytestmark = pytest.mark.kafka

#: Longer than anything here takes, on a loaded machine too.
WAIT_S = 90.0
#: What SIGTERM takes at most, and room for a loaded machine.
ENDS_WITHIN_S = 20.0 + 40.0

HERE = Path(__file__).parent
REPOSITORY = HERE.parent.parent
FAUST = Path(sys.executable).with_name("faust")
KEYS = 8


def environment(bench: Any, app: str, tmp_path: Path, **more: str) -> dict[str, str]:
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("STREAMAPP_")},
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(HERE / "apps")]),
        "STREAMAPP_BROKER": bench.bootstrap,
        "STREAMAPP_ID": bench.name(app),
        "STREAMAPP_DATADIR": str(tmp_path / "state"),
        "STREAMAPP_SESSION_TIMEOUT": "6",
        "STREAMAPP_TRANSACTION_TIMEOUT": "2",
        "STREAMAPP_PARTITIONS": "2",
        "COUNTING_IN": bench.name("in"),
        "COUNTING_OUT": bench.name("out"),
        **more,
    }


def faust(arguments: list[str], env: dict[str, str], cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [FAUST, *arguments], env=env, cwd=cwd, capture_output=True, text=True, timeout=WAIT_S, check=False
    )


@asynccontextmanager
async def worker(env: dict[str, str], cwd: Path, app: str = "counting") -> AsyncIterator[subprocess.Popen[str]]:
    """`faust -A ... worker`; killed at the end if it still runs."""
    with (cwd / "worker.log").open("a") as log:
        process = subprocess.Popen(  # noqa: ASYNC220
            [FAUST, "-A", app, "worker", "-l", "info"],
            env=env,
            cwd=cwd,
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(10)


async def test_fausts_own_commands_work(bench: Any, tmp_path: Path) -> None:
    env = environment(bench, "commands", tmp_path)
    bench.create("in", "out")
    agents, tables, sent = await asyncio.gather(
        asyncio.to_thread(faust, ["-A", "streamapp.app", "agents"], env, tmp_path),
        asyncio.to_thread(faust, ["-A", "counting", "tables"], env, tmp_path),
        asyncio.to_thread(faust, ["-A", "counting", "send", "-k", "ada", bench.name("in"), "41"], env, tmp_path),
    )
    assert "post_transfers" in agents.stdout, agents.stderr
    assert "Events of each key" in tables.stdout, tables.stderr
    assert sent.returncode == 0, sent.stderr
    async with worker(env, tmp_path) as process:
        rows = await bench.wait_for("out", 1)
        terminate(process)
        assert await asyncio.to_thread(process.wait, ENDS_WITHIN_S) == 0
    assert (rows[0].key, rows[0].value) == ("ada", b"41 1")
    assert set(os.listdir(tmp_path)) == {"state", "worker.log"}  # noqa: PTH208 - and nothing of Faust's


async def test_the_service_runs_under_fausts_worker(bench: Any, tmp_path: Path) -> None:
    env = environment(bench, "service", tmp_path)
    async with worker(env, tmp_path, "streamapp.app") as process:
        log = tmp_path / "worker.log"
        async with asyncio.timeout(WAIT_S):
            while "ready after" not in log.read_text():
                assert process.poll() is None, log.read_text()
                await asyncio.sleep(0.1)
        terminate(process)
        assert await asyncio.to_thread(process.wait, ENDS_WITHIN_S) == 0


async def test_a_refused_worker_says_all_of_it_and_ends_with_an_error(bench: Any, tmp_path: Path) -> None:
    env = environment(bench, "refused", tmp_path, COUNTING_REFUSED="1")
    ended = await asyncio.to_thread(faust, ["-A", "counting", "worker", "--without-web"], env, tmp_path)
    said = ended.stdout + ended.stderr
    assert ended.returncode != 0
    assert "SetTable members" in said
    assert "GlobalTable everywhere" in said
    assert "Instead: " in said


async def test_what_ends_a_program_is_its_events_failure(bench: Any, tmp_path: Path) -> None:
    """`sys.exit()` and `KeyboardInterrupt`, of an agent and of a task it awaits; a signal still ends the worker."""
    env = environment(bench, "ending", tmp_path, COUNTING_ENDS="1", STREAMAPP_PARTITIONS="1")
    bench.create("in", "out")
    bench.send("in", range(6), key=lambda _: "k")
    command = [sys.executable, "-m", "streamapp.cli", "worker", "--app", "counting", "--without-web"]
    with (tmp_path / "worker.log").open("a") as log:
        process = subprocess.Popen(command, env=env, cwd=tmp_path, stdout=log, stderr=log)  # noqa: ASYNC220
    try:
        rows = await bench.wait_for("out", 2)
        letters = await bench.wait_for("in-dlt", 4)
        process.send_signal(signal.SIGINT)
        assert await asyncio.to_thread(process.wait, ENDS_WITHIN_S) == 0, (tmp_path / "worker.log").read_text()
    finally:
        process.kill()
        process.wait(10)
    assert [row.value for row in rows] == [b"0 1", b"5 2"]
    assert [letter.value for letter in letters] == [b"1", b"2", b"3", b"4"]


async def test_kill_9_in_the_middle_loses_nothing_and_doubles_nothing(bench: Any, tmp_path: Path) -> None:
    env = environment(bench, "killed", tmp_path, COUNTING_PAUSE="0.002")
    total = 900
    bench.create("in", "out")
    bench.send("in", range(total), key=lambda n: f"key-{n % KEYS}")
    for part in (200, 500):
        async with worker(env, tmp_path) as process:
            await _at_least(bench, part)
            process.kill()
    async with worker(env, tmp_path):
        rows = await bench.wait_for("out", total)
    for key in range(KEYS):
        mine = [tuple(map(int, row.value.split())) for row in rows if row.key == f"key-{key}"]
        assert mine == [(value, number + 1) for number, value in enumerate(range(key, total, KEYS))]
    assert set(Counter(row.value for row in rows).values()) == {1}


async def _at_least(bench: Any, count: int) -> None:
    async with asyncio.timeout(WAIT_S):
        while len(await asyncio.to_thread(bench.committed, "out")) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_kill_9_at_least_once_loses_nothing_and_may_double(bench: Any, tmp_path: Path) -> None:
    """Killed at commit.before_offsets, where what is repeated comes from, and at commit.before_end."""
    env = environment(bench, "killed", tmp_path, COUNTING_PAUSE="0.002") | {
        "STREAMAPP_PROCESSING_GUARANTEE": "at_least_once"
    }
    total = 900
    bench.create("in", "out")
    bench.send("in", range(total), key=lambda n: f"key-{n % KEYS}")
    for point in ("commit.before_offsets", "commit.before_end"):
        async with worker(env | dies_at(tmp_path, point, nth=3), tmp_path) as process:
            assert await asyncio.to_thread(process.wait, WAIT_S) == -signal.SIGKILL
    async with worker(env, tmp_path):
        async with asyncio.timeout(WAIT_S):
            while set(found := await asyncio.to_thread(_values, bench)) != set(range(total)):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
    assert total < len(found) < 2 * total, "nothing is repeated, or everything is"
    first = dict.fromkeys(found)
    for key in range(KEYS):  # what is repeated is repeated from a commit on, and never swapped
        assert [value for value in first if value % KEYS == key] == list(range(key, total, KEYS))


def dies_at(tmp_path: Path, point: str, nth: int = 1) -> dict[str, str]:
    """Environment of a worker that kills itself with -9 there."""
    plan = f'[{{"point": "{point}", "action": "kill", "nth": {nth}}}]'
    return {"FAULT_PLAN_ALLOWED": "1", "FAULT_PLAN": plan, "FAULT_PLAN_HITS": str(tmp_path / "hits")}


def _values(bench: Any) -> list[int]:
    return [int(row.value.split()[0]) for row in bench.committed("out")]


@pytest.mark.parametrize("heir", ["itself", "another"])
async def test_kill_9_between_intent_and_handler_leaves_the_handler_to_the_next_owner(
    bench: Any, tmp_path: Path, heir: str
) -> None:
    """commit.before_store: the transaction with the intents is committed, and this process does nothing more."""
    told = tmp_path / "told"
    env = environment(bench, "telling", tmp_path, TELLING_IN=bench.name("in"), TELLING_FILE=str(told))
    bench.create("in")
    bench.send("in", range(20), key=lambda n: f"key-{n}")
    async with worker(env | dies_at(tmp_path, "commit.before_store"), tmp_path, "telling") as process:
        assert await asyncio.to_thread(process.wait, WAIT_S) == -signal.SIGKILL
    assert not told.exists(), "a handler ran before the crash"
    intents = f"{bench.name('telling')}-after-commit-changelog"
    owed = {row.key for row in bench.committed(intents, full_name=True)}
    assert owed, "the crash came before the commit"
    if heir == "another":
        env["STREAMAPP_DATADIR"] = str(tmp_path / "another")
    async with worker(env, tmp_path, "telling") as process:
        async with asyncio.timeout(WAIT_S):
            while await asyncio.to_thread(_owed, bench, intents) or len(_told(told)) < 20:
                assert process.poll() is None, (tmp_path / "worker.log").read_text()
                await asyncio.sleep(0.1)
    assert sorted(_told(told)) == list(range(20)), "each once: nobody died while a handler ran"


def _told(file: Path) -> list[int]:
    return [int(line.split()[1]) for line in file.read_text().splitlines()] if file.exists() else []


def _owed(bench: Any, changelog: str) -> set[str | None]:
    rows = bench.committed(changelog, full_name=True)
    return {row.key for row in rows} - {row.key for row in rows if row.value is None}
