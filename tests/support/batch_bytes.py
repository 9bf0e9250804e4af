"""A record batch's bytes, changed by hand: a broker or client takes them again once the checksum fits (KIP-98)."""

from __future__ import annotations

import struct

from aiokafka.record.util import calc_crc32c

#: Where a batch has its checksum and, from there on, what the checksum is of.
CHECKSUM, CHECKED = 17, 21


def checked(raw: bytes | bytearray) -> bytes:
    """With the checksum of what is in it now."""
    changed = bytearray(raw)
    struct.pack_into(">I", changed, CHECKSUM, calc_crc32c(bytes(changed[CHECKED:])))
    return bytes(changed)
