"""Whose values a directory holds, so that it is never read as somebody else's."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, fields
from typing import Self

from streamapp.errors import ConfigurationError, StateCorrupted

#: Of the files below a state directory. A store of another format is wiped and restored from its changelog.
FORMAT = 1

_TABLE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")


@dataclass(frozen=True, slots=True)
class StoreIdentity:
    """One partition of one table of one application, and the changelog that its checkpoint counts in.

    `changelog_id` is Kafka's topic id, None where it is not known: a topic that was deleted and made again has the
    name of the old one and other offsets.
    """

    app: str
    table: str
    partition: int
    changelog: str
    changelog_id: str | None = None

    def __post_init__(self) -> None:
        if not _TABLE.fullmatch(self.table):
            raise ConfigurationError(f"{self.table!r} cannot be a table's name: use letters, digits, '.', '_' and '-'")

    @property
    def name(self) -> str:
        return f"{self.table}[{self.partition}]"

    def to_json(self) -> str:
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1)

    @classmethod
    def from_json(cls, text: bytes, where: str) -> Self:
        """Raises `StateCorrupted` for text that is damaged or of another format."""
        try:
            stored = json.loads(text)
            found = stored.pop("format")
            identity = cls(**stored) if found == FORMAT else None
        except (ValueError, TypeError, AttributeError, KeyError, ConfigurationError) as error:
            raise StateCorrupted(f"{where} is damaged ({error!r}). Wipe this store and restore it.") from error
        if identity is None:
            raise StateCorrupted(f"{where} is of format {found}, not {FORMAT}. Wipe this store and restore it.")
        return identity

    def check_same(self, stored: StoreIdentity, where: str) -> None:
        """Raises `ConfigurationError` naming every difference: the values there are another store's, or the last
        copy of a changelog that was deleted, and that is for a person to decide."""
        differences = [
            f"{field.name} {getattr(stored, field.name)!r}, not {getattr(self, field.name)!r}"
            for field in fields(self)
            if getattr(self, field.name) != getattr(stored, field.name)
            and not (field.name == "changelog_id" and None in (self.changelog_id, stored.changelog_id))
        ]
        if differences:
            raise ConfigurationError(
                f"{where} belongs to something else: {', '.join(differences)}. Nothing was read or changed. "
                "Move it away to restore from the changelog, or mend STREAMAPP_DATADIR, ID or INSTANCE."
            )
