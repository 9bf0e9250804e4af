"""The inbox's pure part: marks, what makes an event the same event, and what is decided about it."""

from __future__ import annotations

import dataclasses
from typing import Any

import faust
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamapp.delivery.inbox import Fields, InboxStatus, InboxVerdict, Mark, attempts_of, judge, mark_key
from streamapp.errors import ConfigurationError, RecordError

CONTENT, OTHER = b"a" * 16, b"b" * 16
WEEK_S = 7 * 86_400


class Payment(msgspec.Struct, frozen=True):
    event_id: str
    amount: int
    tags: dict[str, int] = {}


class FaustPayment(faust.Record):
    event_id: str
    amount: int


@dataclasses.dataclass
class PlainPayment:
    event_id: str
    amount: int


@given(
    st.sampled_from(InboxStatus), st.integers(1, 255), st.integers(0, 2**32 - 1), st.binary(min_size=16, max_size=16)
)
def test_a_mark_is_read_as_it_was_written(status: InboxStatus, attempts: int, appended_s: int, content: bytes) -> None:
    mark = Mark(status, attempts, appended_s, content)
    assert len(mark.pack()) == 22
    assert Mark.unpack(mark.pack()) == mark


def test_attempts_beyond_a_byte_stand_still() -> None:
    assert Mark.unpack(Mark(InboxStatus.FAILED, 900, 0, CONTENT).pack()).attempts == 255


def test_bytes_that_are_no_mark_are_refused() -> None:
    with pytest.raises(ValueError, match="no mark"):
        Mark.unpack(b'{"a": 1}')


@pytest.mark.parametrize(
    ("mark", "content", "appended_s", "verdict"),
    [
        (None, CONTENT, 100, InboxVerdict.FRESH),
        (Mark(InboxStatus.PROCESSED, 1, 100, CONTENT), CONTENT, 100, InboxVerdict.DUPLICATE),
        (Mark(InboxStatus.PROCESSED, 1, 100, CONTENT), OTHER, 100, InboxVerdict.CONFLICT),
        (Mark(InboxStatus.FAILED, 1, 100, CONTENT), CONTENT, 100, InboxVerdict.FRESH),
        (Mark(InboxStatus.FAILED, 1, 100, CONTENT), OTHER, 100, InboxVerdict.FRESH),
        (Mark(InboxStatus.PROCESSED, 1, 100, CONTENT), CONTENT, 100 + WEEK_S, InboxVerdict.DUPLICATE),
        (Mark(InboxStatus.PROCESSED, 1, 100, CONTENT), OTHER, 100 + WEEK_S, InboxVerdict.CONFLICT),
        (Mark(InboxStatus.PROCESSED, 1, 100, CONTENT), CONTENT, 101 + WEEK_S, InboxVerdict.FRESH),
        (Mark(InboxStatus.PROCESSED, 1, 100, CONTENT), CONTENT, 5, InboxVerdict.DUPLICATE),  # an old record read again
    ],
)
def test_what_is_decided(mark: Mark | None, content: bytes, appended_s: int, verdict: InboxVerdict) -> None:
    assert judge(mark, content, appended_s, WEEK_S) is verdict


def test_attempts_go_on_after_a_failure_only() -> None:
    assert attempts_of(None) == 1
    assert attempts_of(Mark(InboxStatus.FAILED, 3, 0, CONTENT)) == 4
    assert attempts_of(Mark(InboxStatus.PROCESSED, 3, 0, CONTENT)) == 1  # older than the retention: it begins anew


texts = st.one_of(st.none(), st.binary(max_size=6), st.text(max_size=4).map(str.encode))
marks = st.tuples(st.text(max_size=3), texts, st.tuples(st.text(max_size=3)) | st.tuples(st.text(), st.text()))


@given(marks, marks)
def test_two_marks_have_one_key_only_if_they_are_one(
    a: tuple[str, bytes | None, tuple[str, ...]], b: tuple[str, bytes | None, tuple[str, ...]]
) -> None:
    assert (mark_key(*a) == mark_key(*b)) == (a == b)


def test_a_marks_key_can_be_read_by_people() -> None:
    assert mark_key("agents.post", b"alice", ("t-1",)) == b'["agents.post","alice","t-1"]'
    assert mark_key("agents.post", b"\xff", ("t-1", "bob")) == b'["agents.post",["ff"],"t-1","bob"]'
    assert mark_key("agents.post", None, (7,)) == b'["agents.post",null,7]'


@pytest.mark.parametrize(
    "value",
    [
        Payment("p-1", 5),
        FaustPayment(event_id="p-1", amount=5),
        PlainPayment("p-1", 5),
        {"event_id": "p-1", "amount": 5},
    ],
)
def test_every_kind_of_value_has_id_and_content(value: object) -> None:
    fields = Fields("event_id")
    assert fields.id_of(value) == ("p-1",)
    assert fields.hash_of(value) == fields.hash_of(value)
    assert Fields(("event_id", "amount")).id_of(value) == ("p-1", 5)
    assert Fields("event_id", ("amount",)).hash_of(value) == Fields("event_id", ("amount",)).hash_of({"amount": 5})


def test_content_is_every_declared_field_and_no_order_of_keys() -> None:
    fields = Fields("event_id")
    same = [Payment("p-1", 5, {"a": 1, "b": 2}), Payment("p-1", 5, {"b": 2, "a": 1})]
    assert len({fields.hash_of(value) for value in same}) == 1
    different = [*same, Payment("p-1", 6), Payment("p-2", 5), Payment("p-1", 5, {"a": 1})]
    assert len({fields.hash_of(value) for value in different}) == 4
    assert fields.hash_of({"x": 1, "y": 2}) == fields.hash_of({"y": 2, "x": 1})


def test_named_content_leaves_the_rest_out() -> None:
    fields = Fields("event_id", ("amount",))
    assert fields.hash_of(Payment("p-1", 5)) == fields.hash_of(Payment("p-2", 5, {"a": 1}))
    assert fields.hash_of(Payment("p-1", 5)) != fields.hash_of(Payment("p-1", 6))


@pytest.mark.parametrize("value", [{}, {"event_id": None}, PlainPayment(None, 1), 7, None])  # type: ignore[arg-type]
def test_a_record_without_an_id_is_a_bad_record(value: object) -> None:
    with pytest.raises(RecordError, match="no event id"):
        Fields("event_id").id_of(value)


def test_a_record_without_its_content_is_a_bad_record() -> None:
    with pytest.raises(RecordError, match="content"):
        Fields("event_id", ("amount",)).hash_of({"event_id": "p-1"})


def test_fields_that_do_not_exist_are_refused_when_they_are_named() -> None:
    with pytest.raises(ConfigurationError, match="no field amuont, id"):
        Fields("id", ("amuont",)).check(Payment.__struct_fields__, "post")
    with pytest.raises(ConfigurationError, match="at least one"):
        Fields(())


def test_a_field_that_is_added_with_a_default_is_no_other_content_where_defaults_are_omitted() -> None:
    fields: list[Any] = [("event_id", str), ("amount", int)]
    old = msgspec.defstruct("Order", fields, omit_defaults=True)("1", 5)
    grown = msgspec.defstruct("Order", [*fields, ("currency", str, "EUR")], omit_defaults=True)
    written_out = msgspec.defstruct("Order", [*fields, ("currency", str, "EUR")])
    content = Fields("event_id").hash_of
    assert content(old) == content(grown("1", 5)) != content(grown("1", 5, "USD"))
    assert content(old) != content(written_out("1", 5))
