"""The test kit as pytest fixtures; pytest finds them by itself where streamapp is installed.

    # pytest.ini: which app
    [pytest]
    streamapp_app = shop

    def test_totals(app):
        app.feed("order", {"order_id": "1", "customer": "ann", "cents": 250})
        assert app.table("spent") == {"ann": 250}

    @pytest.mark.streamapp("shop", partitions=1)      # another app or other settings, for one test
    def test_an_agent(agent):
        assert agent("add_up").put({"order_id": "1", "customer": "ann", "cents": 250})[0].value == {"cents": 250}

    def test_crashes(crash_everywhere):
        crash_everywhere(lambda app: app.feed("order", {"order_id": "1", "customer": "ann", "cents": 250}))

`app` is a `Bench`, `agent` a function of an agent's name, `crash_everywhere` the function of that name for this app.
A test that has fixtures of these names of its own keeps them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from streamapp.testing.bench import AgentBench, Bench
    from streamapp.testing.crashes import CrashReport, Scenario

_MARKER = "streamapp"
_OPTION = "streamapp_app"


def pytest_addoption(parser: pytest.Parser) -> None:
    """The setting that names the app."""
    parser.addini(_OPTION, "MODULE[:NAME] of the app that the fixtures of streamapp run", default="")


def pytest_configure(config: pytest.Config) -> None:
    """The marker."""
    config.addinivalue_line(
        "markers", f"{_MARKER}(target, **settings): the app, MODULE[:NAME], and the settings, that the fixtures run"
    )


@pytest.fixture
def app(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """A real worker of the app on a Kafka in memory and on virtual time."""
    from streamapp.testing.bench import Bench

    target, settings = _declared(request)
    with Bench(target, **settings) as bench:
        yield bench


@pytest.fixture
def agent(app: Bench) -> Callable[[str], AgentBench]:
    """A function of an agent's name: what is put to it, and what came of that."""
    return app.agent


@pytest.fixture
def crash_everywhere(request: pytest.FixtureRequest) -> Callable[..., CrashReport]:
    """`streamapp.testing.crash_everywhere` for this app: give it the scenario."""
    from streamapp.testing.crashes import crash_everywhere as everywhere

    target, settings = _declared(request)

    def run(scenario: Scenario, **options: Any) -> CrashReport:
        __tracebackhide__ = True
        return everywhere(scenario, target, **{**settings, **options})

    return run


def _declared(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    marker = request.node.get_closest_marker(_MARKER)
    target = request.config.getini(_OPTION)
    settings: dict[str, Any] = {}
    if marker is not None:
        target, settings = (marker.args[0] if marker.args else target), dict(marker.kwargs)
    if not target:
        raise pytest.UsageError(
            f"Which app? Write `{_OPTION} = MODULE` below [pytest] in pytest.ini, or mark the test: "
            f'@pytest.mark.{_MARKER}("MODULE").'
        )
    return target, settings
