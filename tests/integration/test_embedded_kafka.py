"""The broker that the tests, the demo and `streamapp up` share: what it must be able to do."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

pytestmark = pytest.mark.kafka


def test_a_transaction_is_read_committed_only(kafka: Any, topic_prefix: str) -> None:
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    topic = f"{topic_prefix}-t"
    admin.create_topics([NewTopic(topic, 2)])[topic].result(60)
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": topic_prefix})
    producer.init_transactions(10)
    for value, end in ((b"no", producer.abort_transaction), (b"yes", producer.commit_transaction)):
        producer.begin_transaction()
        producer.produce(topic, value)
        end(10)
    consumer = Consumer(
        {"bootstrap.servers": kafka.bootstrap, "group.id": topic_prefix, "auto.offset.reset": "earliest"}
    )
    try:
        consumer.subscribe([topic])
        message = consumer.poll(60)
        assert message is not None and message.error() is None and message.value() == b"yes"
    finally:
        consumer.close()


def test_topics_are_not_created_by_asking_for_them(kafka: Any) -> None:
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    unknown = f"never-{uuid.uuid4().hex}"
    assert unknown not in admin.list_topics(timeout=60).topics
    admin.list_topics(unknown, timeout=60)
    assert unknown not in admin.list_topics(timeout=60).topics
