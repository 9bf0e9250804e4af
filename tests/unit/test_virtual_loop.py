"""The virtual loop: time jumps, processes freeze and die, and one seed is one run."""

from __future__ import annotations

import asyncio

import pytest

from streamapp.testing.clock import EPOCH_S, VirtualClock
from streamapp.testing.loop import Stuck, VirtualLoop, run


def test_hours_pass_at_once() -> None:
    async def main(loop: VirtualLoop) -> float:
        await asyncio.sleep(7200)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(60):
                await asyncio.Event().wait()
        assert VirtualClock(skew_s=5).now() == EPOCH_S + 7265
        return loop.time()

    assert run(main) == 7260


def test_a_run_that_cannot_go_on_says_so() -> None:
    async def main(loop: VirtualLoop) -> None:
        await asyncio.Event().wait()

    with pytest.raises(Stuck):
        run(main)


def test_frozen_code_misses_its_timers_and_finds_them_when_thawed() -> None:
    async def main(loop: VirtualLoop) -> list[float]:
        seen: list[float] = []

        async def tick() -> None:
            while True:
                await asyncio.sleep(1)
                seen.append(loop.time())

        process = loop.process("worker")
        process.spawn(tick())
        await asyncio.sleep(2.5)
        process.freeze()
        await asyncio.sleep(10)
        process.thaw()
        await asyncio.sleep(1.2)
        return seen

    assert run(main) == [1, 2, 12.5, 13.5]


def test_killed_code_runs_no_finally() -> None:
    cleaned: list[float] = []

    async def main(loop: VirtualLoop) -> None:
        async def work() -> None:
            try:
                await asyncio.sleep(10)
            finally:
                cleaned.append(loop.time())

        process = loop.process("worker")
        task = process.spawn(work())
        await asyncio.sleep(1)
        process.kill()
        await asyncio.sleep(100)
        assert not task.done()
        assert not cleaned

    run(main)
    assert cleaned == [101]  # only when the loop is closed, after everything was judged


def test_what_a_process_starts_belongs_to_it() -> None:
    async def main(loop: VirtualLoop) -> list[str]:
        seen: list[str] = []

        async def work() -> None:
            loop.call_later(1, seen.append, "inner timer")
            loop.call_outside(1, seen.append, "outer timer")

        process = loop.process("worker")
        await process.spawn(work())
        process.kill()
        await asyncio.sleep(2)
        return list(seen)

    assert run(main) == ["outer timer"]


def _interleaving(seed: int) -> str:
    async def main(loop: VirtualLoop) -> str:
        seen: list[str] = []

        async def work(name: str) -> None:
            for turn in range(5):
                seen.append(f"{name}{turn}")
                await asyncio.sleep(0)

        tasks = [loop.process(name).spawn(work(name)) for name in "abc"]
        await asyncio.wait(tasks)
        return " ".join(seen)

    return run(main, seed)


def test_the_seed_decides_between_processes_and_only_there() -> None:
    assert _interleaving(1) == _interleaving(1)
    runs = {_interleaving(seed) for seed in range(20)}
    assert len(runs) > 10
    for text in runs:
        assert [word for word in text.split() if word[0] == "a"] == ["a0", "a1", "a2", "a3", "a4"]


def test_an_error_nobody_awaited_fails_the_run() -> None:
    async def main(loop: VirtualLoop) -> None:
        loop.call_soon(lambda: 1 / 0)
        await asyncio.sleep(1)

    with pytest.raises(RuntimeError, match="in the background") as caught:
        run(main)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_executors_run_at_once() -> None:
    async def main(loop: VirtualLoop) -> int:
        return await asyncio.to_thread(sum, [1, 2, 3])

    assert run(main) == 6
