"""Whatever is raised for a record, between its fetch and its agent's last line, is that record's dead letter."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from failing_app import WAYS
from hypothesis import given
from hypothesis import strategies as st

from streamapp.delivery.dead_letter import dead_letter
from streamapp.delivery.inbox import Fields, mark_key
from streamapp.delivery.side_output import Source
from streamapp.errors import RecordError, StoreError, brief, is_the_events
from streamapp.testing import Bench

pytestmark = pytest.mark.streamapp("failing_app")
GOOD = {"order_id": "good", "customer": "ann", "cents": 1}
IN_AGENTS = [*WAYS, "child", "self", "group of tasks", "deep", "cleanup"]


@pytest.fixture(autouse=True)
def _no_log() -> Iterator[None]:
    """Half a surrogate pair in a captured log line ends a worker of pytest-xdist, which cannot send it on."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def goes_on(app: Bench) -> bool:
    """Whether the worker processes the next event, the same agents' ones among them."""
    app.feed("order", GOOD)
    app.feed("loose", {"do": "nothing"}, key="after")
    assert app.starts == 1
    return bool(app.table("spent")["ann"] == 1) and "nothing" in app.outputs("told")


@pytest.mark.parametrize("do", IN_AGENTS)
def test_whatever_an_agent_raises_is_its_events_dead_letter(app: Bench, do: str) -> None:
    app.feed("loose", {"do": do}, {"do": "before"}, key="k")
    (letter,) = app.dead_letters("loose")
    assert len(letter.reason.encode()) <= 1024
    assert letter.kind.isprintable()
    assert app.outputs("told") == ["half", "before"]
    assert app.table("spent") == {"k": 1}
    assert goes_on(app)


@pytest.mark.parametrize("do", IN_AGENTS)
def test_one_event_of_a_batch_fails_and_the_others_do_not(app: Bench, do: str) -> None:
    app.feed("batch", {"do": "a"}, {"do": do}, {"do": "b"}, {"do": "c"}, key="k")
    assert len(app.dead_letters("batch")) == 1
    assert app.outputs("told") == [1, 1, 1]
    assert goes_on(app)


@pytest.mark.parametrize("do", [way for way in WAYS if way != "cancelled"])
def test_whatever_a_processor_raises_is_its_events_dead_letter(app: Bench, do: str) -> None:
    app.feed("filtered", {"do": do}, {"do": "good"}, key="k")
    assert len(app.dead_letters("filtered")) == 1
    assert app.outputs("told") == ["good"]
    assert goes_on(app)


@pytest.mark.parametrize("how", WAYS)
def test_whatever_a_record_type_raises_is_its_records_dead_letter(app: Bench, how: str) -> None:
    app.feed("picky", {"how": how}, {"how": "good"}, key="k")
    assert len(app.dead_letters("picky")) == 1
    assert app.outputs("told") == ["good"]
    assert goes_on(app)


@pytest.mark.parametrize("cents", [2**64, 2**70, -(2**63) - 1])
def test_an_integer_beyond_64_bits_ends_no_worker(app: Bench, cents: int) -> None:
    app.feed("order", b'{"order_id":"big","customer":"bob","cents":%d}' % cents, key="bob")
    app.settle()
    assert goes_on(app)


@pytest.mark.parametrize(
    ("value", "letters"),
    [
        (rb'{"id":"a","n":99999999999999999999}', 0),
        (rb'{"id":"a","name":"\ud83d"}', 0),
        (rb'{"id":"a","\ud83d":1}', 0),
        (rb'{"id":"\ud83d"}', 1),
        (rb'{"id":99999999999999999999}', 0),
        (rb'{"id":NaN}', 1),
        (rb'{"id":["\ud83d"]}', 1),
        (rb"[]", 1),
        (rb"7", 1),
    ],
)
def test_an_inbox_takes_odd_content_and_refuses_odd_ids(app: Bench, value: bytes, letters: int) -> None:
    app.feed("untyped", value, value, key="k")
    assert len(app.dead_letters("untyped")) == 2 * letters
    assert len(app.outputs("told")) == 1 - letters  # the second one is a repeat
    assert goes_on(app)


def test_a_disk_that_refuses_is_no_events_failure() -> None:
    assert not is_the_events(StoreError("full"))
    assert is_the_events(RecordError("bad"))


def test_an_interrupt_is_a_persons_until_the_worker_takes_the_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signal, "getsignal", lambda _: signal.default_int_handler)
    assert not is_the_events(KeyboardInterrupt())
    monkeypatch.setattr(signal, "getsignal", lambda _: signal.SIG_IGN)
    assert is_the_events(KeyboardInterrupt())


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=-(2**70), max_value=2**70)
    | st.floats()
    | st.text(st.characters(codec=None), max_size=8),  # half surrogate pairs, too
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec=None), max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(JSON)
def test_any_json_has_a_hash_that_depends_on_nothing_else(value: Any) -> None:
    fields = Fields("id")
    again = dict(reversed(value.items())) if isinstance(value, dict) else value
    assert fields.hash_of(value) == fields.hash_of(again)


@given(st.text(), st.binary() | st.none(), JSON)
def test_any_id_makes_a_mark_or_is_a_bad_record(agent: str, key: bytes | None, value: Any) -> None:
    try:
        raw = mark_key(agent, key, Fields("id").id_of({"id": value}))
    except RecordError as exc:
        assert exc.kind == "InvalidRecord"
    else:
        raw.decode()


@given(st.text(st.characters(codec=None)))
def test_any_text_of_an_exception_makes_a_letter_and_a_line(text: str) -> None:
    source = Source("order", 0, 7, 0, b"k", b"v", ())
    letter = dead_letter(source, ValueError(text), group="g", attempts=1, size_max=1 << 20)
    assert len(dict(letter.headers)["dlt-exception-message"] or b"") <= 1024
    brief(ValueError(text)).encode()
