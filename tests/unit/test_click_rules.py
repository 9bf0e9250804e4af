"""The rules of clicks: what is charged is paid; a click without a price is no record."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.clicks.rules import charge_of, revenue_of
from streamapp.codec import Codec
from streamapp.errors import RecordError
from streamapp.records import AdClick

TIME = "2026-01-31T12:00:00Z"


@given(st.integers(1, 2**63 - 1), st.text(), st.text(), st.text(), st.text())
def test_what_the_advertiser_is_charged_the_publisher_earns(
    cpc: int, event_id: str, ad: str, advertiser: str, publisher: str
) -> None:
    click = AdClick(
        event_id=event_id, occurred_at=TIME, ad_id=ad, advertiser_id=advertiser, publisher_id=publisher, cpc=cpc
    )
    same = {"ad_id": ad, "amount": cpc, "occurred_at": TIME}
    assert (
        msgspec.to_builtins(charge_of(click)) == {"event_id": f"{event_id}:charge", "advertiser_id": advertiser} | same
    )
    assert (
        msgspec.to_builtins(revenue_of(click)) == {"event_id": f"{event_id}:revenue", "publisher_id": publisher} | same
    )


@pytest.mark.parametrize("cpc", ["0", "-1", "1.0", "true", '"1"', "null", str(2**63)])
def test_a_price_is_at_least_one_minor_unit(cpc: str) -> None:
    text = f'{{"event_id":"c","ad_id":"a","advertiser_id":"b","publisher_id":"p","cpc":{cpc},"occurred_at":"{TIME}"}}'
    with pytest.raises(RecordError, match="cpc"):
        Codec(AdClick).decode(text.encode())
