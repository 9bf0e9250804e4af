"""The real input: 69,659 purchases of CDNOW's customers, as transfers and as payments.

Public data of marketing research, January 1997 to June 1998. It lies in the wheel of `lifetimes` 0.11.3, from which
only the file is taken: nothing of the package is installed or run. pip fetches the wheel, wherever this machine's
pip gets its packages, and both the wheel and the file must have the checksums written here.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import msgspec
import platformdirs

from streamapp.errors import ConfigurationError, StreamAppError, Unavailable
from streamapp.records import Payment, Transfer

WHEEL = "lifetimes==0.11.3"
WHEEL_SHA256 = "261e3dc89977c2b60767ca6728aaa29d429de0c814635070a749c36555895da8"
MEMBER = "lifetimes/datasets/CDNOW_master.txt"
FILE_SHA256 = "eff6889ed364c5199d6eacbbeb7a6d559971df4406ac876f322c373f00a072ef"
#: Purchases in the file.
LINES = 69_659

FETCH_TIMEOUT_S = 120.0

_HEADER = ["customer_id", "date", "number_of_cds", "dollar_value"]
_FIELDS = re.compile(r"\s*(?P<customer>\d{5})\s+(?P<date>\d{8})\s+\d+\s+(?P<dollars>\d+\.\d\d)\s*")


class Purchase(NamedTuple):
    """One line of the file. `line` counts the purchases from 1, as they stand in the file."""

    line: int
    customer: str
    day: date
    cents: int


def transfers(path: Path) -> Iterator[bytes]:
    """Each purchase of the file that `fetch()` gives, as a transfer in JSON, stably sorted by date."""
    return _encoded(path, transfer)


def payments(path: Path) -> Iterator[bytes]:
    """Each purchase of the file that `fetch()` gives, as a payment in JSON, stably sorted by date."""
    return _encoded(path, payment)


def _encoded(path: Path, record_of: Callable[[Purchase], Transfer | Payment]) -> Iterator[bytes]:
    text = path.read_text(encoding="ascii")
    encode = msgspec.json.Encoder().encode
    return (encode(record_of(purchase)) for purchase in in_order(parse(text.splitlines())))


def in_order(purchases: Iterable[Purchase]) -> list[Purchase]:
    """By date; purchases of one day stay as they stand in the file."""
    return sorted(purchases, key=lambda purchase: purchase.day)


def transfer(purchase: Purchase) -> Transfer:
    """The purchase as the contract wants it: from outside the ledger to the merchant."""
    return Transfer(
        event_id=_name(purchase),
        from_account=f"@cdnow-{purchase.customer}",
        to_account="merchant:cdnow",
        amount=purchase.cents,
        currency="USD",
        occurred_at=_time(purchase),
    )


def payment(purchase: Purchase) -> Payment:
    """The purchase as the contract wants it: an order of its own at the merchant."""
    return Payment(
        event_id=_name(purchase),
        event_type="PAYMENT_REQUESTED",
        order_id=_name(purchase),
        customer_id=purchase.customer,
        merchant_id="cdnow",
        amount=purchase.cents,
        currency="USD",
        occurred_at=_time(purchase),
    )


def _name(purchase: Purchase) -> str:
    return f"cdnow-{purchase.line:05d}"


def _time(purchase: Purchase) -> str:
    return f"{purchase.day.isoformat()}T00:00:00Z"


def parse(lines: Iterable[str]) -> Iterator[Purchase]:
    """The purchases of the file, header first. `StreamAppError` names the line that is none."""
    rows = iter(lines)
    if next(rows, "").split() != _HEADER:
        raise StreamAppError(f"This is not the CDNOW file: its first line is not {' '.join(_HEADER)}.")
    for number, row in enumerate(rows, 1):
        try:
            yield _purchase(number, row)
        except ValueError as exc:
            raise StreamAppError(f"Purchase {number} of the CDNOW file is malformed: {exc}.") from None


def _purchase(number: int, row: str) -> Purchase:
    fields = _FIELDS.fullmatch(row)
    if fields is None:
        raise ValueError("expected customer (5 digits), date (8 digits), CDs, dollars with two decimals")
    day = fields["date"]
    # Decimal text, never float: 0.29 * 100 is 28.999999999999996.
    cents = int(Decimal(fields["dollars"]).scaleb(2))
    return Purchase(number, fields["customer"], date(int(day[:4]), int(day[4:6]), int(day[6:])), cents)


def fetch(directory: Path | None = None, timeout_s: float = FETCH_TIMEOUT_S) -> Path:
    """The verified file in the user's cache, fetched once; from then on no network is needed."""
    directory = directory or platformdirs.user_cache_path("streamapp") / "cdnow"
    path = directory / "CDNOW_master.txt"
    try:
        if _is_verified(path):
            return path
        directory.mkdir(parents=True, exist_ok=True)
        # In the same directory, so that the rename is atomic: a reader sees the whole file or none.
        with tempfile.TemporaryDirectory(dir=directory, prefix=".fetch-") as scratch:
            whole = Path(scratch) / path.name
            whole.write_bytes(_extracted(_download(Path(scratch), timeout_s)))
            whole.replace(path)
    except OSError as exc:
        raise ConfigurationError(
            f"The CDNOW file cannot be kept in {directory}: {exc.strerror}. Free some space or mend its permissions, "
            "or set XDG_CACHE_HOME to a directory that can be written."
        ) from None
    return path


def _is_verified(path: Path) -> bool:
    return path.is_file() and _sha256(path.read_bytes()) == FILE_SHA256


def _download(scratch: Path, timeout_s: float) -> Path:
    """The wheel, by this Python's own pip, which checks its hash."""
    wanted = scratch / "wheel.txt"
    wanted.write_text(f"{WHEEL} --hash=sha256:{WHEEL_SHA256}\n", encoding="ascii")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "--no-input"]
    command += ["--disable-pip-version-check", "--only-binary=:all:", "--retries=2", "--timeout=15"]
    command += ["--requirement", str(wanted), "--dest", str(scratch)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        raise _unfetched(f"pip did not end within {timeout_s:g} s") from None
    except OSError as exc:
        raise _unfetched(f"{sys.executable} could not be started ({exc.strerror})") from None
    wheels = list(scratch.glob("*.whl"))
    if done.returncode or not wheels:
        said = done.stderr.strip().splitlines() or ["it said nothing"]
        raise _unfetched(f"pip ended with {done.returncode}: {said[-1].strip()}")
    return wheels[0]


def _extracted(wheel: Path) -> bytes:
    try:
        with zipfile.ZipFile(wheel) as archive:
            content = archive.read(MEMBER)
    except (zipfile.BadZipFile, KeyError) as exc:
        raise _unfetched(f"the wheel has no readable {MEMBER} ({exc})") from None
    if _sha256(content) != FILE_SHA256:
        raise _unfetched(f"{MEMBER} has the checksum {_sha256(content)}, not {FILE_SHA256}")
    return content


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _unfetched(why: str) -> Unavailable:
    return Unavailable(
        f"The CDNOW file could not be fetched (wheel {WHEEL}): {why}. Nothing was sent. "
        "Check that pip reaches its package index, then try again; once fetched it is kept."
    )
