"""What is at an address that does not answer as it is spoken to: one question, asked in the clear and within TLS.

A broker says whether a connection needs credentials before it has any (SaslHandshake). One that is spoken to in the
wrong way only closes the connection, and a client learns nothing from that.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import struct
from collections.abc import Sequence
from typing import NamedTuple

from streamapp.settings import PREFIX

_TIMEOUT_S = 3.0
#: A name of no mechanism: the answer is that it is not supported, and which ones are.
_NO_MECHANISM = b"NONE"
_CORRELATION = 20_734
_SASL_HANDSHAKE, _VERSION = 17, 1
_UNSUPPORTED_MECHANISM, _NO_SASL_HERE = 33, 34
_QUESTION = struct.pack(
    f">hhihh{len(_NO_MECHANISM)}s", _SASL_HANDSHAKE, _VERSION, _CORRELATION, -1, len(_NO_MECHANISM), _NO_MECHANISM
)
_ANSWER_BYTES_MAX = 4096


class Diagnosis(NamedTuple):
    """How a broker wants to be spoken to."""

    protocol: str
    #: SASL mechanisms that it takes.
    mechanisms: Sequence[str] = ()


async def found_at(host: str, port: int) -> Diagnosis | None:
    """What the broker at this address wants; None: nobody answers, or nobody who is known."""
    for protocol, context in (("PLAINTEXT", None), ("SSL", _trusting())):
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, struct.error, ValueError):
            async with asyncio.timeout(_TIMEOUT_S):
                mechanisms = _mechanisms(await _answer(host, port, context))
            return Diagnosis(protocol if mechanisms is None else f"SASL_{protocol}", mechanisms or ())
    return None


def mismatch(address: str, found: Diagnosis | None, protocol: str, mechanism: str | None) -> str | None:
    """What to set, where the broker at an address wants something else than what is set; None where it does not."""
    if found is None:
        return None
    if found.protocol == protocol:
        if not found.mechanisms or mechanism in found.mechanisms:
            return None
        return (
            f"{address} does not take {PREFIX}SASL_MECHANISM={mechanism} but {', '.join(found.mechanisms)}. Nothing "
            "was started. Set the one that your user is known by."
        )
    credentials = (
        f", {PREFIX}SASL_MECHANISM (it takes {', '.join(found.mechanisms)}), {PREFIX}SASL_USERNAME and "
        f"{PREFIX}SASL_PASSWORD"
        if found.mechanisms
        else ""
    )
    return (
        f"{address} speaks {found.protocol}, and {PREFIX}SECURITY_PROTOCOL is {protocol}. Nothing was started. Set "
        f"{PREFIX}SECURITY_PROTOCOL={found.protocol}{credentials}, or name another port in {PREFIX}BROKER."
    )


def _trusting() -> ssl.SSLContext:
    """For a connection on which nothing secret is said."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def _answer(host: str, port: int, context: ssl.SSLContext | None) -> bytes:
    reader, writer = await asyncio.open_connection(host, port, ssl=context)
    try:
        writer.write(struct.pack(">i", len(_QUESTION)) + _QUESTION)
        (size,) = struct.unpack(">i", await reader.readexactly(4))
        if not 0 < size <= _ANSWER_BYTES_MAX:
            raise ValueError("no answer of Kafka's")
        return await reader.readexactly(size)
    finally:
        writer.close()


def _mechanisms(answer: bytes) -> list[str] | None:
    """The mechanisms of an answer; None: no credentials are wanted. `ValueError` if Kafka does not answer so."""
    correlation, code, count = struct.unpack_from(">ihi", answer)
    if correlation != _CORRELATION or code not in (_UNSUPPORTED_MECHANISM, _NO_SASL_HERE):
        raise ValueError("no answer of Kafka's")
    if code == _NO_SASL_HERE:
        return None
    names, at = [], 10
    for _ in range(count):
        (length,) = struct.unpack_from(">h", answer, at)
        names.append(answer[at + 2 : at + 2 + length].decode())
        at += 2 + length
    return names
