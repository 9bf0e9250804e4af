"""`topics apply|diff` on real Kafka, under names of the test's own."""

from __future__ import annotations

import dataclasses
import functools
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic, ResourceType

from streamapp import topics
from streamapp.cli.main import run
from streamapp.errors import ConfigurationError, StreamAppError, Unavailable
from streamapp.ops.topics import apply, diff
from streamapp.settings import Settings, load
from streamapp.topics import Declared, TopicRemedy

pytestmark = pytest.mark.kafka


@pytest.fixture
def settings(kafka: Any, topic_prefix: str, monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> Iterator[Settings]:
    """Settings of an app whose declared topics are the contract's, each with the test's prefix."""
    monkeypatch.chdir(str(tmp_path))
    prefixed = tuple(dataclasses.replace(it, name=f"{topic_prefix}-{it.name}") for it in topics.CONTRACT)
    monkeypatch.setattr(topics, "CONTRACT", prefixed)
    monkeypatch.setenv("STREAMAPP_BROKER", kafka.bootstrap)
    monkeypatch.setenv("STREAMAPP_ID", topic_prefix)
    # One copy, whatever the cluster of the test run has: then two brokers fewer change nothing here.
    monkeypatch.setenv("STREAMAPP_REPLICATION_FACTOR", "1")
    yield load()
    client = client_of(kafka.bootstrap)
    left = [name for name in client.list_topics(timeout=60).topics if name.startswith(topic_prefix)]
    for future in client.delete_topics(left).values() if left else ():
        future.result(60)


@functools.cache
def client_of(bootstrap: str) -> AdminClient:
    """Kept, because a client that goes out of scope fails what it was asked."""
    return AdminClient({"bootstrap.servers": bootstrap})


def admin(settings: Settings) -> AdminClient:
    return client_of(settings.broker)


def create(settings: Settings, name: str, partitions: int = 4, **config: str) -> None:
    wanted = {key.replace("_", "."): value for key, value in config.items()}
    admin(settings).create_topics([NewTopic(name, partitions, 1, config=wanted)])[name].result(60)
    until(lambda: name in admin(settings).list_topics(timeout=60).topics)


def alter(settings: Settings, name: str, setting: str, value: str) -> None:
    entry = ConfigEntry(setting, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, name, incremental_configs=[entry])
    admin(settings).incremental_alter_configs([resource])[resource].result(60)
    until(lambda: config(settings, name)[setting] == value)


def config(settings: Settings, name: str) -> dict[str, str]:
    resource = ConfigResource(ResourceType.TOPIC, name)
    return {
        key: entry.value for key, entry in admin(settings).describe_configs([resource])[resource].result(60).items()
    }


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_apply_creates_what_is_declared_and_is_idempotent(settings: Settings, topic_prefix: str) -> None:
    wanted = topics.specs(settings, 1)
    assert {d.remedy for d in diff(settings)} == {TopicRemedy.CREATE}

    first = apply(settings)
    assert (first.created, first.altered, first.left) == (tuple(spec.name for spec in wanted), (), ())
    made = admin(settings).list_topics(timeout=60).topics
    assert {len(made[spec.name].partitions) for spec in wanted if not spec.name.endswith("-positions")} == {4}
    assert all(partition.leader >= 0 for spec in wanted for partition in made[spec.name].partitions.values())
    found = config(settings, f"{topic_prefix}-account-balances")
    assert (found["cleanup.policy"], found["message.timestamp.type"]) == ("compact", "LogAppendTime")

    second = apply(settings)
    assert (second.created, second.altered, second.left) == ((), (), ())
    assert diff(settings) == ()


@pytest.mark.parametrize(
    ("topic", "setting", "wrong", "right"),
    [
        ("account-balances", "cleanup.policy", "delete", "compact"),
        ("transfer", "message.timestamp.type", "CreateTime", "LogAppendTime"),
        ("transfer-dlt", "max.message.bytes", "1048588", str(topics.MAX_BATCH_BYTES + topics.DEAD_LETTER_ROOM_BYTES)),
        ("balances", "min.insync.replicas", "2", "1"),
    ],
)
def test_a_wrong_setting_is_seen_and_mended_and_foreign_ones_are_kept(
    settings: Settings, topic_prefix: str, topic: str, setting: str, wrong: str, right: str
) -> None:
    apply(settings)
    name = f"{topic_prefix}-{topic}"
    alter(settings, name, "retention.ms", "123456789")
    alter(settings, name, setting, wrong)

    (found,) = diff(settings)
    assert (found.topic, found.setting, found.wanted, found.actual) == (name, setting, right, wrong)
    assert config(settings, name)[setting] == wrong  # diff changes nothing

    applied = apply(settings)
    assert (applied.altered, applied.left) == ((found,), ())
    assert config(settings, name)[setting] == right
    assert config(settings, name)["retention.ms"] == "123456789"


def test_a_wrong_partition_count_is_seen_and_never_touched(settings: Settings, topic_prefix: str) -> None:
    name = f"{topic_prefix}-transfer"
    create(settings, name, partitions=3)
    applied = apply(settings)
    assert applied.created == ()
    assert {each.remedy for each in applied.left} == {TopicRemedy.PERSON}
    assert next(each for each in applied.left if each.setting == "partitions").actual == "3"
    # The settings of the misfit were mended all the same, its partitions were not.
    assert {each.setting for each in applied.altered} == {"message.timestamp.type", "max.message.bytes"}
    assert len(admin(settings).list_topics(timeout=60).topics[name].partitions) == 3


def test_the_commands_say_with_their_exit_code_whether_something_is_left(
    settings: Settings, topic_prefix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["topics", "diff", "--json"]) == 1
    differing = json.loads(capsys.readouterr().out)["differences"]
    assert {each["remedy"] for each in differing} == {"create"}
    assert run(["topics", "apply", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["created"]) == len(differing)
    assert run(["topics", "diff"]) == 0
    assert run(["topics", "apply"]) == 0
    assert "nothing to do" in capsys.readouterr().out


def test_apply_exits_1_when_only_a_person_can_mend_the_rest(
    settings: Settings, topic_prefix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    create(settings, f"{topic_prefix}-balances", partitions=7)
    assert run(["topics", "apply"]) == 1
    captured = capsys.readouterr()
    assert "set STREAMAPP_PARTITIONS=7" in captured.out
    assert "only a person" in captured.err


def test_a_refusal_of_the_broker_is_a_sentence_with_the_topic(
    settings: Settings, topic_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = Declared(f"{topic_prefix}-odd", config={"cleanup.policy": "burn"})
    monkeypatch.setattr(topics, "CONTRACT", (*topics.CONTRACT, bad))
    with pytest.raises(StreamAppError, match=rf"refused to create the topic {topic_prefix}-odd: .*burn"):
        apply(settings)


def test_too_many_copies_are_refused_before_anything_is_changed(settings: Settings, topic_prefix: str) -> None:
    with pytest.raises(ConfigurationError, match="REPLICATION_FACTOR=32 needs 32 brokers"):
        apply(load(replication_factor=32))
    assert not [name for name in admin(settings).list_topics(timeout=60).topics if name.startswith(topic_prefix)]


def test_a_wrong_address_is_told_in_bounded_time() -> None:
    begun = time.monotonic()
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1 did not answer within 1 s .*refused.*STREAMAPP_BROKER"):
        diff(load(broker="127.0.0.1:1"), timeout_s=1)
    assert time.monotonic() - begun < 4
