"""What becomes of the order to deliver. Pure."""

from __future__ import annotations

from streamapp.records import Delivery, DeliveryStatus


def status_of(delivery: Delivery) -> DeliveryStatus:
    """The news that the delivery is under way."""
    return DeliveryStatus(
        event_id=f"{delivery.event_id}:status",
        occurred_at=delivery.occurred_at,
        event_type="DELIVERY_STARTED",
        order_id=delivery.order_id,
    )
