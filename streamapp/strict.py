"""Which JSON text is a good value, beyond what its type says: the whole of it is judged, declared fields or not.

docs/bad-input.md has the rules. msgspec enforces the grammar, and UTF-8 and surrogate pairs where it makes text. What
it lets pass is found here: a name twice in one object, and whatever is wrong within a field that nobody declared.

Nearly every value is its type's fields, each once, and nothing else. That is known from its quotation marks alone: each
name has two, and so has each text; one more name or one escaped mark, and there are more than the fields explain.
So `Plain` says how many there must be, and only where there are others `judge()` takes the value apart.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from enum import Enum
from itertools import chain
from typing import Any

import msgspec
from msgspec import inspect

from streamapp.errors import RecordError

#: Levels of objects and arrays, the outermost being the first.
NESTING_MAX = 32

_SMALLEST, _LARGEST = -(2**63), 2**63 - 1
_decode = msgspec.json.Decoder().decode
#: A string in JSON text that is known to be good.
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
#: What an integer beyond 64 bits has, and few others.
_LONG = re.compile(rb"\d{19}")

#: Types that are always text in JSON, and those that never are.
_TEXTS = (inspect.StrType, inspect.DateTimeType, inspect.DateType, inspect.TimeType, inspect.UUIDType)
_BARE = (inspect.IntType, inspect.FloatType, inspect.BoolType, inspect.NoneType)
#: Of these it is seen by the value which it was.
_SIMPLE = (*_BARE, inspect.StrType, inspect.LiteralType)


class _Form(Enum):
    """What values of a type are in JSON."""

    TEXT = "text"
    BARE = "bare"
    EITHER = "text if it is a `str`, else bare"
    OTHER = "not one text, number or constant"


class Plain:
    """How many quotation marks the JSON of a record has that is its type's fields, each once, and nothing else."""

    def __init__(self, record_type: Any) -> None:
        info = inspect.type_info(record_type)
        fields = info.fields if isinstance(info, inspect.StructType) else ()
        #: The names in JSON that are declared.
        self.declared = frozenset(field.encode_name for field in fields)
        forms = [(field, _form(field.type)) for field in fields]
        #: What the fields have that are always there and always the same; -1: every value is taken apart.
        self.marks = -1
        #: The others: attribute, form, whether it is always there, the default otherwise.
        self.varying: tuple[tuple[str, _Form, bool, Any], ...] = ()
        if _is_countable(record_type, info, forms):
            fixed = [form for field, form in forms if field.required and form is not _Form.EITHER]
            self.marks = sum(map(_MARKS.__getitem__, fixed))
            self.varying = tuple(
                (field.name, form, field.required, field.default)
                for field, form in forms
                if not field.required or form is _Form.EITHER
            )

    def more(self, record: Any) -> int:
        """What the fields that vary add to it, if none is there only to say its default."""
        marks = 0
        for name, form, required, default in self.varying:
            value = getattr(record, name)
            if required or value != default:
                is_text = form is _Form.TEXT or (form is _Form.EITHER and isinstance(value, str))
                marks += 4 if is_text else 2
        return marks


#: Of a name and its value.
_MARKS = {_Form.TEXT: 4, _Form.BARE: 2}


def _is_countable(record_type: Any, info: Any, forms: list[tuple[Any, _Form]]) -> bool:
    """Whether what the JSON of a record had can be told from the record."""
    if not forms or info.array_like or info.tag is not None or any(form is _Form.OTHER for _, form in forms):
        return False
    if any(field.default_factory is not msgspec.NODEFAULT for field, _ in forms):
        return False
    # What runs behind the decoder may set fields of a record that is not frozen.
    is_final = record_type.__struct_config__.frozen or not hasattr(record_type, "__post_init__")
    return is_final or all(field.required and form is not _Form.EITHER for field, form in forms)


def _form(kind: Any) -> _Form:
    if isinstance(kind, inspect.Metadata):
        return _form(kind.type)
    if isinstance(kind, _TEXTS):
        return _Form.TEXT
    if isinstance(kind, _BARE):
        return _Form.BARE
    if isinstance(kind, inspect.LiteralType):
        return _together({_Form.TEXT if isinstance(value, str) else _Form.BARE for value in kind.values})
    if isinstance(kind, inspect.EnumType):
        found = {_Form.TEXT if isinstance(member.value, str) else _Form.BARE for member in kind.cls}
        return found.pop() if len(found) == 1 else _Form.OTHER
    if isinstance(kind, inspect.UnionType) and all(isinstance(part, _SIMPLE) for part in kind.types):
        return _together({_form(part) for part in kind.types})
    return _Form.OTHER


def _together(found: set[_Form]) -> _Form:
    return found.pop() if len(found) == 1 else _Form.EITHER


def judge(value: bytes, declared: frozenset[str]) -> None:
    """Raise `RecordError` unless the whole of a value is good that was read as a record with these fields already.

    How large an integer in a declared field may be is its type's affair.
    """
    try:
        document = _decode(value)
    except RecursionError:
        raise too_deep() from None
    except msgspec.ValidationError as exc:
        raise RecordError(f"{exc}, in a field that is not declared", kind="InvalidRecord") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise RecordError(f"not JSON: {exc}, in a field that is not declared") from None
    # Without strings; every second part is one if no quotation mark is escaped.
    bare = _STRING.sub(b"", value) if b"\\" in value else b"".join(value.split(b'"')[::2])
    if bare.count(b"{") + bare.count(b"[") > NESTING_MAX and sum(1 for _ in _levels([document])) > NESTING_MAX:
        raise too_deep()
    if _LONG.search(bare):
        _bound_integers(document, declared)
    if bare.count(b":") != _members(document, bare.count(b"{")):
        raise RecordError(f"the name {_repeated(value)!r} is twice in one object")


def too_deep() -> RecordError:
    """The error of a value with too many levels."""
    return RecordError(f"the value is nested deeper than {NESTING_MAX} levels")


def _levels(fields: Iterable[Any]) -> Iterator[list[Any]]:
    """The objects and arrays among these fields, those in them, and so on; not by recursion, they may be deep."""
    while level := [part for part in fields if isinstance(part, dict | list)]:
        yield level
        fields = [inside for part in level for inside in (part.values() if isinstance(part, dict) else part)]


def _members(document: Any, objects: int) -> int:
    """How many members so many objects have together, which are all there are in it, itself included."""
    if objects == 1 and isinstance(document, dict):
        return len(document)
    return sum(len(part) for level in _levels([document]) for part in level if isinstance(part, dict))


def _bound_integers(document: Any, declared: frozenset[str]) -> None:
    """Refuse integers beyond 64 bits in what nobody declared."""
    fields = [field for name, field in document.items() if name not in declared] if isinstance(document, dict) else []
    deeper = (part.values() if isinstance(part, dict) else part for level in _levels(fields) for part in level)
    for field in (*fields, *chain.from_iterable(deeper)):
        if isinstance(field, int) and not _SMALLEST <= field <= _LARGEST:
            raise RecordError(f"an integer of {field.bit_length():,} bits; 64 are allowed", kind="InvalidRecord")


def _repeated(value: bytes) -> str:
    """A name that is twice in an object of this JSON text."""
    found: list[str] = []

    def note(pairs: list[tuple[str, Any]]) -> None:
        names = [name for name, _ in pairs]
        found.extend(name for name in names if names.count(name) > 1)

    json.JSONDecoder(object_pairs_hook=note, parse_int=str).decode(value.decode())
    return found[0] if found else ""
