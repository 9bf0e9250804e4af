"""The files that settings are in and name: what is wrong with `.env` and with certificates, in sentences."""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from io import StringIO
from pathlib import Path

from dotenv.parser import Binding, parse_stream

#: A mark at the front, which Windows' editors write, does not belong to the first name.
ENCODING = "utf-8-sig"


def read_env_file(name: str, prefix: str) -> tuple[dict[str, str | None] | None, list[str]]:
    """What an `.env` holds, and what is wrong with it; None: it cannot be read at all.

    What is not read, because it is no `NAME=value`, is a problem where it speaks of names with this prefix.
    """
    where = f"{name} in {Path.cwd()}"
    try:
        if not Path(name).is_file():
            return {}, []
        lines = list(parse_stream(StringIO(Path(name).read_text(ENCODING))))
    except UnicodeDecodeError as exc:
        return None, [f"{where} is not UTF-8 (byte {exc.start}). Nothing of it is used. Save it as UTF-8."]
    except OSError as exc:
        return None, [f"{where} cannot be read ({exc.strerror}). Give this user the right to read it, or remove it."]
    unread = [line.original for line in lines if _is_meant(line, prefix) and (line.error or line.value is None)]
    problems = [
        f"{where}, line {text.line}, is no NAME=value: {text.string.strip().partition('=')[0][:60]!r}."
        for text in unread
    ]
    return {line.key: line.value for line in lines if line.key is not None}, problems


def _is_meant(line: Binding, prefix: str) -> bool:
    text = line.original.string.strip()
    return prefix in text.upper() and not text.startswith("#")


def bad_certificates(prefix: str, cafile: Path | None, certfile: Path | None, keyfile: Path | None) -> Iterable[str]:
    """What is wrong with the files of `<prefix>SSL_...`: not there, or something else than what they should hold."""
    named = {"SSL_CAFILE": cafile, "SSL_CERTFILE": certfile, "SSL_KEYFILE": keyfile}
    missing = {name: path for name, path in named.items() if path is not None and not path.is_file()}
    yield from (f"{prefix}{name}={path}: there is no such file." for name, path in missing.items())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if cafile is not None and "SSL_CAFILE" not in missing:
        try:
            context.load_verify_locations(cafile)
        except (OSError, ValueError) as exc:
            yield (
                f"{prefix}SSL_CAFILE={cafile} holds no certificate authority in PEM ({_reason(exc)}). It "
                "begins with -----BEGIN CERTIFICATE-----; keytool -exportcert -rfc makes one of a Java keystore."
            )
    if certfile is not None and keyfile is not None and not {"SSL_CERTFILE", "SSL_KEYFILE"} & missing.keys():
        try:
            # Without an answer OpenSSL would ask for a pass phrase on the terminal.
            context.load_cert_chain(certfile, keyfile, password=lambda: "")
        except (OSError, ValueError) as exc:
            yield (
                f"{prefix}SSL_CERTFILE={certfile} and {prefix}SSL_KEYFILE={keyfile} cannot be used ({_reason(exc)}). "
                "Give a certificate and its own key, both in PEM, the key without a pass phrase."
            )


def _reason(exc: Exception) -> str:
    """What OpenSSL or the system says, short."""
    said = getattr(exc, "reason", None) or getattr(exc, "strerror", None) or str(exc)
    return said or type(exc).__name__
