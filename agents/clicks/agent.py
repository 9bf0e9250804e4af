"""Clicks into charges and revenues: whoever is charged, somebody is paid, and the click counts in its windows."""

from __future__ import annotations

from faust.types import StreamT

from agents.clicks import rules
from streamapp import inbox
from streamapp.app import app
from streamapp.records import AdClick, AdvertiserCharge, PublisherRevenue
from tables.ad_spend import ad_spend

clicks_topic = app.topic("ad-click", value_type=AdClick)
charges_topic = app.topic("advertiser-charge", value_type=AdvertiserCharge)
revenues_topic = app.topic("publisher-revenue", value_type=PublisherRevenue)


@app.agent(clicks_topic)
@inbox(aggregate_type="AD_CLICK", event_type="CLICK_CHARGE", event_id="event_id", aggregate_id="advertiser_id")
async def charge_clicks(stream: StreamT[AdClick]) -> None:
    """Charge the advertiser and pay the publisher of each click."""
    async for click in stream:
        charge, revenue = rules.charge_of(click), rules.revenue_of(click)
        await charges_topic.send(key=charge.advertiser_id, value=charge)
        await revenues_topic.send(key=revenue.publisher_id, value=revenue)
        ad_spend.add(click.advertiser_id, click)
