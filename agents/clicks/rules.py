"""What a click on an ad costs and earns. Pure: records in, records out."""

from __future__ import annotations

from streamapp.records import AdClick, AdvertiserCharge, PublisherRevenue


def charge_of(click: AdClick) -> AdvertiserCharge:
    """What the advertiser owes for it."""
    return AdvertiserCharge(
        event_id=f"{click.event_id}:charge",
        occurred_at=click.occurred_at,
        advertiser_id=click.advertiser_id,
        ad_id=click.ad_id,
        amount=click.cpc,
    )


def revenue_of(click: AdClick) -> PublisherRevenue:
    """What the publisher earns with it: all of the charge."""
    return PublisherRevenue(
        event_id=f"{click.event_id}:revenue",
        occurred_at=click.occurred_at,
        publisher_id=click.publisher_id,
        ad_id=click.ad_id,
        amount=click.cpc,
    )
