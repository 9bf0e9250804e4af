"""Writes the generated tables of `docs/contract.md`: records by topic, and settings. They come from the code.

.venv/bin/python docs/generate.py           rewrites the page
.venv/bin/python docs/generate.py --check   exit code 1 if the page is not current
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from streamapp import records
from streamapp.settings import PREFIX, Settings
from streamapp.topics import CONTRACT

PAGE = Path(__file__).with_name("contract.md")
#: The record type of each topic.
TYPES: Mapping[str, type] = {
    "transfer": records.Transfer,
    "balances": records.BalanceEntry,
    "account-balances": records.AccountBalance,
    "transfer-rejected": records.TransferRejected,
    "payment": records.Payment,
    "payment-result": records.PaymentResult,
    "delivery": records.Delivery,
    "delivery-status": records.DeliveryStatus,
    "payment-totals": records.PaymentTotal,
    "ad-click": records.AdClick,
    "advertiser-charge": records.AdvertiserCharge,
    "publisher-revenue": records.PublisherRevenue,
    "ad-spend": records.AdSpend,
}


def topics() -> Iterator[str]:
    """A row a topic: key, fields, who reads it, and what is set."""
    yield "| topic | key | fields of the value | read by a worker | kept |"
    yield "| --- | --- | --- | --- | --- |"
    for topic in CONTRACT:
        kind = TYPES[topic.name]
        key = f"{kind.KEY}\\|window_start" if "window_start" in kind.__struct_fields__ else kind.KEY  # type: ignore[attr-defined]
        fields = ", ".join(f"`{name}`" for name in kind.__struct_fields__)  # type: ignore[attr-defined]
        reads = "yes, with dead letters" + (" and late records" if topic.windowed else "") if topic.consumed else "no"
        kept = ", ".join(f"`{name}={value}`" for name, value in topic.config.items()) or "by the broker's retention"
        yield f"| `{topic.name}` | `{key}` | {fields} | {reads} | {kept} |"


def settings() -> Iterator[str]:
    """A row a setting."""
    yield "| setting | default | meaning |"
    yield "| --- | --- | --- |"
    for name, field in Settings.model_fields.items():
        default = "unset" if field.default is None else f"`{field.default}`"
        yield f"| `{PREFIX}{name.upper()}` | {default} | {field.description} |"


def current(text: str) -> str:
    """The page with its generated tables as the code has them."""
    for name, rows in (("topics", topics()), ("settings", settings())):
        begin, end = f"<!-- {name}: generated -->", f"<!-- {name}: end -->"
        text, count = re.subn(
            f"{re.escape(begin)}.*?{re.escape(end)}",
            lambda _, rows=rows, begin=begin, end=end: "\n".join([begin, *rows, end]),  # type: ignore[misc]
            text,
            flags=re.S,
        )
        if count != 1:
            raise SystemExit(f"{PAGE.name} has no section {begin}")
    return text


if __name__ == "__main__":
    page = PAGE.read_text()
    if "--check" in sys.argv[1:]:
        if page != current(page):
            sys.exit(f"{PAGE} is not current: run .venv/bin/python docs/generate.py")
    else:
        PAGE.write_text(current(page))
