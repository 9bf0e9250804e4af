"""Deliveries into their status: each is started once, however often the order to start it comes."""

from __future__ import annotations

from faust.types import StreamT

from agents.deliveries import rules
from streamapp import inbox
from streamapp.app import app
from streamapp.records import Delivery, DeliveryStatus

deliveries_topic = app.topic("delivery", value_type=Delivery)
statuses_topic = app.topic("delivery-status", value_type=DeliveryStatus)


@app.agent(deliveries_topic)
@inbox(aggregate_type="DELIVERY", event_type="DELIVERY_START", event_id="event_id", aggregate_id="order_id")
async def start_deliveries(stream: StreamT[Delivery]) -> None:
    """Start each delivery and say so."""
    async for delivery in stream:
        status = rules.status_of(delivery)
        await statuses_topic.send(key=status.order_id, value=status)
