"""What may change in a record: each rule by an example, and all of them against msgspec's own decoder."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamapp.ops.compatibility import Problem, problems
from streamapp.ops.schemas import schema_of

NO_DEFAULT = msgspec.NODEFAULT
Inner = msgspec.defstruct("Inner", [("n", int)])
WiderInner = msgspec.defstruct("WiderInner", [("n", int), ("m", int, 0)])
StricterInner = msgspec.defstruct("StricterInner", [("n", int), ("m", int)])
Positive = Annotated[int, msgspec.Meta(gt=0)]
AtLeastOne = Annotated[int, msgspec.Meta(ge=1)]
Small = Annotated[int, msgspec.Meta(ge=0, le=10)]
Short = Annotated[str, msgspec.Meta(max_length=3)]
Code = Annotated[str, msgspec.Meta(pattern="^[a-z]+$")]


def struct(**fields: Any) -> type[msgspec.Struct]:
    """A record with one required field and these: a type, or a type and its default."""
    listed = [(name, *field) if isinstance(field, tuple) else (name, field) for name, field in fields.items()]
    listed.sort(key=len)  # a required field stands before one with a default
    return msgspec.defstruct("Record", [("id", str), *listed], namespace={"KEY": "id"})


def compared(old: type[msgspec.Struct], new: type[msgspec.Struct]) -> list[Problem]:
    return problems(schema_of(old), schema_of(new))


#: What may happen to a record: old, new.
ALLOWED = {
    "nothing": (struct(a=int), struct(a=int)),
    "a field with a default comes": (struct(), struct(a=(int, 0))),
    "a field goes": (struct(a=int), struct()),
    "a field gets a default": (struct(a=int), struct(a=(int, 1))),
    "a field may be null": (struct(a=int), struct(a=int | None)),
    "int to float": (struct(a=int), struct(a=float)),
    "a value is added": (struct(a=Literal["x"]), struct(a=Literal["x", "y"])),
    "values to any text": (struct(a=Literal["x"]), struct(a=str)),
    "a bound is lifted": (struct(a=Small), struct(a=int)),
    "a bound is written another way": (struct(a=Positive), struct(a=AtLeastOne)),
    "text may be longer": (struct(a=Short), struct(a=str)),
    "anything": (struct(a=dict[str, int]), struct(a=Any)),
    "an inner field with a default comes": (struct(a=Inner), struct(a=WiderInner)),
    "a list of numbers": (struct(a=list[int]), struct(a=list[float])),
    "a tuple to a list": (struct(a=tuple[int, str]), struct(a=list[int | str])),
    "a union grows": (struct(a=int | str), struct(a=int | str | None)),
    "values of a map": (struct(a=dict[str, int]), struct(a=dict[str, int | None])),
}

#: What may not: old, new, a record of the old one that the new one refuses, and a word of the reason.
BROKEN = {
    "a required field comes": (struct(), struct(a=int), {}, "is required"),
    "a default goes": (struct(a=(int, 0)), struct(a=int), {}, "is required"),
    "int to text": (struct(a=int), struct(a=str), {"a": 1}, "takes string, and records have integer"),
    "float to int": (struct(a=float), struct(a=int), {"a": 1.5}, "takes integer"),
    "null no more": (struct(a=int | None), struct(a=int), {"a": None}, "takes integer, and records have null"),
    "a value goes": (struct(a=Literal["x", "y"]), struct(a=Literal["x"]), {"a": "y"}, "no longer takes 'y'"),
    "text to values": (struct(a=str), struct(a=Literal["x"]), {"a": "z"}, "takes 'x'"),
    "a bound comes": (struct(a=int), struct(a=Positive), {"a": -1}, "narrower"),
    "a bound is narrower": (struct(a=AtLeastOne), struct(a=Small), {"a": 11}, "narrower"),
    "text must be short": (struct(a=str), struct(a=Short), {"a": "long text"}, "maxLength"),
    "text must match": (struct(a=str), struct(a=Code), {"a": "A"}, "pattern"),
    "an inner field comes": (struct(a=Inner), struct(a=StricterInner), {"a": {"n": 1}}, "is required"),
    "items change": (struct(a=list[int]), struct(a=list[str]), {"a": [1]}, "takes string"),
    "a tuple is shorter": (struct(a=tuple[int, int]), struct(a=tuple[int]), {"a": [1, 2]}, "one item more"),
    "values of a map change": (struct(a=dict[str, int]), struct(a=dict[str, str]), {"a": {"k": 1}}, "takes string"),
    "a union shrinks": (struct(a=int | str), struct(a=int), {"a": "x"}, "takes integer"),
    "a type under another name": (
        struct(a=Inner, b=Inner | None),
        struct(a=str, b=Inner | None),
        {"a": {"n": 1}, "b": None},
        "takes string",
    ),
}


@pytest.mark.parametrize("old, new", ALLOWED.values(), ids=ALLOWED)
def test_a_change_that_is_allowed(old: type[msgspec.Struct], new: type[msgspec.Struct]) -> None:
    assert compared(old, new) == []


@pytest.mark.parametrize("old, new, fields, reason", BROKEN.values(), ids=BROKEN)
def test_a_change_that_breaks_says_so_and_what_to_do(
    old: type[msgspec.Struct], new: type[msgspec.Struct], fields: dict[str, Any], reason: str
) -> None:
    raw = msgspec.json.encode({"id": "1", **fields})
    msgspec.json.decode(raw, type=old)
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(raw, type=new)
    found = compared(old, new)
    assert found
    assert any(reason in problem.what for problem in found), found
    assert all(problem.fix and problem.where.startswith("Record") for problem in found)


def test_what_decodes_and_means_something_else_is_a_break_too() -> None:
    (default,) = compared(struct(a=(int, 0)), struct(a=(int, 1)))
    assert default.where == "Record.a"
    assert "its default is 1 and was 0" in default.what
    other_key = msgspec.defstruct("Record", [("id", str), ("a", str)], namespace={"KEY": "a"})
    (key,) = compared(struct(a=str), other_key)
    assert "records are keyed by id" in key.what


def test_a_field_that_was_renamed_is_told_how_to_keep_its_name() -> None:
    (problem,) = compared(struct(amount=int), struct(cents=int))
    assert problem.where == "Record.cents"
    assert "msgspec.field(name='amount')" in problem.fix


def test_fields_that_are_not_known_may_not_be_forbidden() -> None:
    strict = msgspec.defstruct("Record", [("id", str)], forbid_unknown_fields=True, namespace={"KEY": "id"})
    (problem,) = compared(struct(), strict)
    assert "refuses fields it does not know" in problem.what


class Tree(msgspec.Struct):
    label: str
    children: list[Tree] = []


def test_a_type_may_contain_itself() -> None:
    stricter = msgspec.json.schema(Tree)
    stricter["$defs"]["Tree"]["properties"]["label"] = {"type": "integer"}
    assert problems(schema_of(Tree), schema_of(Tree)) == []
    assert {problem.where for problem in problems(msgspec.json.schema(Tree), stricter)} == {"Tree.label"}


def test_a_rule_that_is_not_known_must_be_the_same() -> None:
    old, new = schema_of(struct(a=int)), schema_of(struct(a=int))
    new["$defs"]["Record"]["properties"]["a"]["multipleOf"] = 5
    assert "multipleOf" in problems(old, new)[0].what
    assert problems(new, new) == []


# --- against msgspec: no problem found means that every old record is read

_integers = st.integers(-(2**63), 2**63 - 1)
_texts = st.text(max_size=6)
#: Type -> its values as JSON has them.
VALUES: dict[Any, st.SearchStrategy[Any]] = {
    int: _integers,
    float: st.floats(allow_nan=False, allow_infinity=False) | _integers,
    str: _texts,
    bool: st.booleans(),
    Positive: st.integers(1, 2**63 - 1),
    AtLeastOne: st.integers(1, 2**63 - 1),
    Small: st.integers(0, 10),
    Short: st.text(max_size=3),
    Literal["x", "y"]: st.sampled_from(["x", "y"]),
    Literal["x"]: st.just("x"),
    int | None: _integers | st.none(),
    int | str: _integers | _texts,
    list[int]: st.lists(_integers, max_size=3),
    list[float]: st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=3),
    tuple[int, str]: st.tuples(_integers, _texts),
    tuple[int, ...]: st.lists(_integers, max_size=3),
    dict[str, int]: st.dictionaries(_texts, _integers, max_size=3),
    dict[str, int | None]: st.dictionaries(_texts, _integers | st.none(), max_size=3),
    Inner: st.fixed_dictionaries({"n": _integers}),
    WiderInner: st.fixed_dictionaries({"n": _integers}, optional={"m": _integers}),
    StricterInner: st.fixed_dictionaries({"n": _integers, "m": _integers}),
}
#: Field name -> (type, whether it has a default).
_fields = st.dictionaries(st.sampled_from("abc"), st.tuples(st.sampled_from(list(VALUES)), st.booleans()), max_size=3)


def made(fields: dict[str, tuple[Any, bool]]) -> type[msgspec.Struct]:
    return struct(**{name: (type_, None) if has_default else type_ for name, (type_, has_default) in fields.items()})


@given(_fields, _fields, st.data())
@settings(max_examples=200, deadline=None)
def test_what_is_called_compatible_is_read(
    old: dict[str, tuple[Any, bool]], new: dict[str, tuple[Any, bool]], data: st.DataObject
) -> None:
    record: dict[str, Any] = {"id": "1", "unknown": [1]}
    for name, (type_, has_default) in old.items():
        if not has_default or data.draw(st.booleans()):
            record[name] = data.draw(VALUES[type_])
    raw = msgspec.json.encode(record)
    msgspec.json.decode(raw, type=made(old))
    if not compared(made(old), made(new)):
        msgspec.json.decode(raw, type=made(new))
