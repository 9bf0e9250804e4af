"""Whether a reader with one JSON Schema reads every record written under another. Pure: schemas in, problems out.

Asked both ways. What a new reader would refuse of old records is a break: topics and changelogs hold them for as
long as they are kept. What an old reader would refuse of new records decides the order of an upgrade.

Understands what msgspec generates. A rule of a schema that it does not know must be the same on both sides.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

Schema: TypeAlias = "Mapping[str, Any]"

#: Words of a schema that no value is judged by.
_SILENT = frozenset({"$schema", "$defs", "title", "description", "default", "examples", "x-key", "x-released"})
#: Words with a comparison of their own below.
_COMPARED = frozenset({"$ref", "anyOf", "enum", "type", "properties", "required", "additionalProperties", "items"})
_COMPARED |= {"prefixItems", "minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"}
_SIZES = {"minLength": 1, "minItems": 1, "minProperties": 1, "maxLength": -1, "maxItems": -1, "maxProperties": -1}
_JSON_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null"}


class Problem(NamedTuple):
    """One reason why records would be refused or mean something else, and how to avoid it."""

    where: str
    what: str
    fix: str


def problems(written: Schema, read: Schema) -> list[Problem]:
    """Why a reader with the schema `read` does not read records written under `written`; empty: it reads them all."""
    found = list(_Comparison(written, read).compare(str(read.get("title") or _name(read)), written, read))
    old, new = written.get("x-key"), read.get("x-key")
    if old != new:
        found.append(
            Problem(
                _name(read),
                f"the key is {new or 'free'}, and records are keyed by {old or 'nothing'}: one key's records would lie "
                "in two partitions",
                f"Keep KEY = {old!r}, or write to a topic of another name.",
            )
        )
    return found


class _Comparison:
    """A walk over both schemas at once; `$ref` is followed on each side in its own definitions."""

    def __init__(self, written: Schema, read: Schema) -> None:
        self._written_defs = written.get("$defs", {})
        self._read_defs = read.get("$defs", {})
        #: Pairs of types that are being compared, for types that contain themselves.
        self._open: set[tuple[str, str]] = set()

    def compare(self, where: str, written: Schema, read: Schema) -> Iterator[Problem]:
        refs = written.get("$ref", ""), read.get("$ref", "")
        if refs in self._open and all(refs):
            return
        self._open.add(refs)
        yield from self._compare_alternatives(
            where, _resolved(written, self._written_defs), _resolved(read, self._read_defs)
        )
        self._open.discard(refs)

    def _compare_alternatives(self, where: str, written: Schema, read: Schema) -> Iterator[Problem]:
        if "anyOf" in written:
            for alternative in written["anyOf"]:
                yield from self.compare(where, alternative, read)
        elif "anyOf" in read:
            if all(list(self.compare(where, written, alternative)) for alternative in read["anyOf"]):
                yield _refused(where, written, read)
        else:
            yield from self._compare_plain(where, written, read)

    def _compare_plain(self, where: str, written: Schema, read: Schema) -> Iterator[Problem]:
        if "enum" in written:
            yield from self._compare_values(where, written, read)
            return
        if "enum" in read or not _type_is_read(written.get("type"), read.get("type")):
            yield _refused(where, written, read)
            return
        yield from _narrower(where, written, read)
        if read.get("type") == "object":
            yield from self._compare_fields(where, written, read)
        elif read.get("type") == "array":
            yield from self._compare_items(where, written, read)

    def _compare_values(self, where: str, written: Schema, read: Schema) -> Iterator[Problem]:
        if "enum" in read:
            refused = [value for value in written["enum"] if value not in read["enum"]]
        else:
            allowed = read.get("type")
            refused = [value for value in written["enum"] if not _type_is_read(_JSON_TYPES[type(value)], allowed)]
            yield from _narrower(where, {}, read)
        if refused:
            shown = ", ".join(repr(value) for value in refused)
            yield Problem(where, f"no longer takes {shown}, which records have", "Keep the value, and stop writing it.")

    def _compare_fields(self, where: str, written: Schema, read: Schema) -> Iterator[Problem]:
        had, has = written.get("properties", {}), read.get("properties", {})
        always, needed = set(written.get("required", ())), set(read.get("required", ()))
        for name, field in has.items():
            path = f"{where}.{name}"
            if name not in had:
                if name in needed:
                    yield Problem(path, "is required, and there are records without it", _default_for(had, has))
                continue
            if name in needed - always:
                yield Problem(path, "is required, and records may lack it", "Keep the default it had.")
            elif name not in needed | always and had[name].get("default") != field.get("default"):
                before, after = had[name].get("default"), field.get("default")
                yield Problem(
                    path,
                    f"its default is {after!r} and was {before!r}: records without it would mean something else",
                    "Keep the default; a new meaning needs a new field.",
                )
            yield from self.compare(path, had[name], field)
        yield from self._compare_unknown(where, written, read)

    def _compare_unknown(self, where: str, written: Schema, read: Schema) -> Iterator[Problem]:
        more = read.get("additionalProperties", True)
        if more is False:
            if written.get("additionalProperties") is not False or written.get("properties", {}).keys() - read.get(
                "properties", {}
            ):
                yield Problem(
                    where,
                    "refuses fields it does not know, and records may have some",
                    "Leave out forbid_unknown_fields.",
                )
        elif more is not True:
            values = written.get("additionalProperties", True)
            yield from self.compare(f"{where}[*]", {} if values is True else values, more)

    def _compare_items(self, where: str, written: Schema, read: Schema) -> Iterator[Problem]:
        had, has = written.get("prefixItems", []), read.get("prefixItems", [])
        rest, rest_read = written.get("items", True), read.get("items", True)
        for index in range(max(len(had), len(has))):
            one = had[index] if index < len(had) else rest
            other = has[index] if index < len(has) else rest_read
            yield from self._compare_item(f"{where}[{index}]", one, other)
        yield from self._compare_item(f"{where}[]", rest, rest_read)

    def _compare_item(self, where: str, written: Any, read: Any) -> Iterator[Problem]:
        if read is True or written is False:
            return
        if read is False:
            yield Problem(where, "is one item more than the reader takes", "Keep the length, or use a new field.")
            return
        yield from self.compare(where, {} if written is True else written, read)


def _resolved(schema: Schema, definitions: Schema) -> Schema:
    while "$ref" in schema:
        beside = {word: value for word, value in schema.items() if word not in ("$ref", "$defs")}
        target: Schema = definitions[schema["$ref"].rpartition("/")[2]]
        schema = {**target, **beside}
    return schema


def _name(schema: Schema) -> str:
    return str(schema.get("$ref", "")).rpartition("/")[2] or "record"


def _type_is_read(written: str | None, read: str | None) -> bool:
    return read is None or written == read or (written, read) == ("integer", "number")


def _narrower(where: str, written: Schema, read: Schema) -> Iterator[Problem]:
    """Rules of the reader that a record may break."""
    broken = [
        word for word, sign in _SIZES.items() if word in read and not _within(written.get(word), read[word], sign)
    ]
    broken += [word for word, sign in (("minimum", 1), ("maximum", -1)) if not _bound_holds(written, read, sign)]
    known = _SILENT | _COMPARED | _SIZES.keys()
    broken += [word for word in read if word not in known and written.get(word) != read[word]]
    if broken:
        rules = ", ".join(broken)
        yield Problem(
            where,
            f"is narrower than records may be ({rules})",
            "Keep what is read as it was, and decide in the agent what to do with values you no longer want.",
        )


def _within(written: int | None, read: int, sign: int) -> bool:
    return written is not None and sign * written >= sign * read


def _bound_holds(written: Schema, read: Schema, sign: int) -> bool:
    """Whether the writer's lower (sign 1) or upper (-1) bound lies within the reader's."""
    bound = _bound(read, sign)
    if bound is None:
        return True
    own = _bound(written, sign)
    return own is not None and (sign * own[0], own[1]) >= (sign * bound[0], bound[1])


def _bound(schema: Schema, sign: int) -> tuple[float, bool] | None:
    """The bound, and whether it is itself excluded; of integers the last one that is allowed."""
    closed, opened = ("minimum", "exclusiveMinimum") if sign > 0 else ("maximum", "exclusiveMaximum")
    if closed in schema:
        return schema[closed], False
    if opened not in schema:
        return None
    return (schema[opened] + sign, False) if schema.get("type") == "integer" else (schema[opened], True)


def _refused(where: str, written: Schema, read: Schema) -> Problem:
    return Problem(
        where,
        f"takes {_shown(read)}, and records have {_shown(written)}",
        "Leave the field as it is and add another one, with a default.",
    )


def _shown(schema: Schema) -> str:
    if "anyOf" in schema:
        return " or ".join(_shown(alternative) for alternative in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(repr(value) for value in schema["enum"])
    return str(schema.get("type") or _ref_shown(schema))


def _ref_shown(schema: Schema) -> str:
    return _name(schema) if "$ref" in schema else "anything"


def _default_for(had: Iterable[str], has: Iterable[str]) -> str:
    gone = [name for name in had if name not in set(has)]
    renamed = (
        f" If it is {gone[0]} by a new name, keep the old name in JSON: msgspec.field(name={gone[0]!r})."
        if gone
        else ""
    )
    return f"Give it a default.{renamed}"
