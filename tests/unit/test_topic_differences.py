"""Topics: what is declared, and how every kind of difference is judged."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import pytest

from streamapp import topics
from streamapp.errors import ConfigurationError
from streamapp.settings import load
from streamapp.topics import ActualTopic, Declared, Difference, TopicRemedy, TopicSpec, differences, specs


@pytest.fixture(autouse=True)
def no_env_file(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.chdir(str(tmp_path))


def declared(brokers: int = 3, **settings: object) -> tuple[TopicSpec, ...]:
    return specs(load(id="shop", **settings), brokers)


def as_declared(wanted: tuple[TopicSpec, ...]) -> dict[str, ActualTopic]:
    return {s.name: ActualTopic(s.name, s.partitions, s.replication_factor, s.config) for s in wanted}


def changed(name: str, config: Mapping[str, str] | None = None, brokers: int = 3, **fields: int) -> list[Difference]:
    """The differences when one topic of a right layout is changed."""
    wanted = declared(brokers)
    actual = as_declared(wanted)
    topic = actual[name]
    actual[name] = dataclasses.replace(topic, config={**topic.config, **(config or {})}, **fields)
    return differences(wanted, actual)


def test_the_topics_are_those_of_the_contract() -> None:
    wanted = {spec.name: spec for spec in declared()}
    assert list(wanted) == [
        "transfer",
        "balances",
        "account-balances",
        "transfer-rejected",
        "payment",
        "payment-result",
        "delivery",
        "delivery-status",
        "payment-totals",
        "ad-click",
        "advertiser-charge",
        "publisher-revenue",
        "ad-spend",
        "transfer-dlt",
        "balances-dlt",
        "payment-dlt",
        "delivery-dlt",
        "ad-click-dlt",
        "payment-late",
        "ad-click-late",
        "shop-balances-changelog",
        "shop-payments-changelog",
        "shop-payment_totals-changelog",
        "shop-ad_spend-changelog",
        "shop-inbox-changelog",
        "shop-positions",
    ]
    assert {spec.config["message.timestamp.type"] for spec in wanted.values()} == {"LogAppendTime"}
    assert {spec.config["min.insync.replicas"] for spec in wanted.values()} == {"2"}
    assert {spec.partitions for name, spec in wanted.items() if name != "shop-positions"} == {4}
    assert wanted["shop-positions"].partitions == 1
    compacted = {name for name, spec in wanted.items() if spec.config["cleanup.policy"] == "compact"}
    upserts = {"account-balances", "payment-totals", "ad-spend"}
    tables = ("balances", "payments", "payment_totals", "ad_spend")
    assert compacted == {*upserts, *(f"shop-{table}-changelog" for table in tables), "shop-positions"}
    assert wanted["shop-inbox-changelog"].config["cleanup.policy"] == "compact,delete"
    assert {wanted[name].config["min.compaction.lag.ms"] for name in upserts} == {str(7 * 24 * 3600 * 1000)}


def test_dead_letters_have_room_for_the_largest_source_and_its_story() -> None:
    sizes = {spec.name: int(spec.config["max.message.bytes"]) for spec in declared()}
    assert sizes["transfer"] > 1 << 20
    assert sizes["transfer-dlt"] == sizes["transfer"] + (64 << 10)
    assert sizes["balances-dlt"] == sizes["balances"] + (64 << 10)
    assert sizes["payment-late"] == sizes["payment"] + (64 << 10)


def test_one_more_topic_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topics, "CONTRACT", (*topics.CONTRACT, Declared("refund", consumed=True)))
    names = {spec.name for spec in declared()}
    assert {"refund", "refund-dlt"} <= names


@pytest.mark.parametrize(("brokers", "copies", "min_isr"), [(1, 1, "1"), (2, 2, "1"), (3, 3, "2"), (9, 3, "2")])
def test_copies_follow_the_brokers(brokers: int, copies: int, min_isr: str) -> None:
    spec = declared(brokers)[0]
    assert (spec.replication_factor, spec.config["min.insync.replicas"]) == (copies, min_isr)


def test_more_copies_than_brokers_is_refused_with_both_numbers() -> None:
    with pytest.raises(ConfigurationError, match=r"REPLICATION_FACTOR=3 needs 3 brokers, and 1 answered"):
        declared(1, replication_factor=3)


def test_a_right_layout_differs_in_nothing_and_foreign_topics_and_settings_do_not_count() -> None:
    wanted = declared()
    actual = as_declared(wanted)
    actual["somebody-else"] = ActualTopic("somebody-else", 1, 1, {})
    topic = actual["transfer"]
    actual["transfer"] = dataclasses.replace(topic, config={**topic.config, "retention.ms": "1"})
    assert differences(wanted, actual) == []


def test_missing_topics_are_created() -> None:
    wanted = declared()
    found = differences(wanted, {})
    assert [(d.topic, d.remedy) for d in found] == [(spec.name, TopicRemedy.CREATE) for spec in wanted]


@pytest.mark.parametrize("count", [1, 8])
def test_a_wrong_partition_count_is_for_a_person(count: int) -> None:
    (found,) = changed("balances", partitions=count)
    assert (found.setting, found.wanted, found.actual, found.remedy) == (
        "partitions",
        "4",
        str(count),
        TopicRemedy.PERSON,
    )
    assert "must not be added" in found.advice


def test_where_every_topic_has_another_count_the_setting_is_what_is_wrong() -> None:
    wanted = declared()
    actual = {name: dataclasses.replace(topic, partitions=6) for name, topic in as_declared(wanted).items()}
    found = differences(wanted, actual)
    assert len(found) == len(wanted)
    assert all("set STREAMAPP_PARTITIONS=6" in each.advice for each in found)


def test_nothing_is_created_beside_a_wrong_partition_count() -> None:
    wanted = declared()
    actual = {"transfer": dataclasses.replace(as_declared(wanted)["transfer"], partitions=6)}
    assert {each.remedy for each in differences(wanted, actual)} == {TopicRemedy.PERSON}


@pytest.mark.parametrize(
    ("name", "setting", "actual"),
    [
        ("transfer", "cleanup.policy", "compact"),
        ("account-balances", "cleanup.policy", "delete"),
        ("account-balances", "cleanup.policy", "compact,delete"),
        ("balances", "message.timestamp.type", "CreateTime"),
        ("transfer", "max.message.bytes", "1048588"),
        ("transfer-dlt", "max.message.bytes", str(topics.MAX_BATCH_BYTES)),
        ("account-balances", "min.compaction.lag.ms", "0"),
        ("transfer", "min.insync.replicas", "1"),
        ("transfer", "min.insync.replicas", "4"),
    ],
)
def test_a_wrong_setting_is_altered(name: str, setting: str, actual: str) -> None:
    (found,) = changed(name, {setting: actual})
    wanted = next(spec for spec in declared() if spec.name == name)
    assert found == Difference(name, setting, wanted.config[setting], actual, TopicRemedy.ALTER, found.advice)


@pytest.mark.parametrize(
    ("name", "setting", "actual"),
    [
        ("transfer", "max.message.bytes", "5000000"),
        ("account-balances", "min.compaction.lag.ms", str(1 << 40)),
        ("transfer", "min.insync.replicas", "3"),
    ],
)
def test_a_stricter_or_larger_setting_is_left_alone(name: str, setting: str, actual: str) -> None:
    assert changed(name, {setting: actual}) == []


def test_the_words_of_a_policy_have_no_order() -> None:
    spec = TopicSpec("t", 1, 1, {"cleanup.policy": "compact,delete"})
    assert differences([spec], {"t": ActualTopic("t", 1, 1, {"cleanup.policy": "delete, compact"})}) == []


def test_too_few_copies_are_for_a_person_and_do_not_ask_for_two_of_one() -> None:
    found = changed("transfer", {"min.insync.replicas": "1"}, replication_factor=1)
    assert [(each.setting, each.wanted, each.actual, each.remedy) for each in found] == [
        ("replication factor", "3", "1", TopicRemedy.PERSON)
    ]


def test_more_in_sync_copies_than_copies_would_refuse_every_write() -> None:
    (found,) = changed("transfer", {"min.insync.replicas": "2"}, brokers=1)
    assert (found.setting, found.wanted, found.remedy) == ("min.insync.replicas", "1", TopicRemedy.ALTER)


def test_more_copies_than_wanted_are_welcome() -> None:
    assert changed("transfer", replication_factor=5) == []


def test_every_piece_of_advice_is_one_sentence() -> None:
    wanted = declared()
    broken = {s.name: ActualTopic(s.name, 3, 1, {}) for s in wanted[1:]} | {
        "balances": ActualTopic("balances", 9, 1, {})
    }
    for found in (differences(wanted, {}), differences(wanted, broken)):
        for each in found:
            assert each.advice.endswith(".") and ". " not in each.advice, each.advice


def test_the_one_partition_of_the_positions_says_nothing_of_the_others() -> None:
    wanted = declared(partitions=4)
    actual = {name: dataclasses.replace(it, partitions=2) for name, it in as_declared(wanted).items()}
    actual["shop-positions"] = dataclasses.replace(actual["shop-positions"], partitions=1)
    found = [it for it in differences(wanted, actual) if it.setting == "partitions"]
    assert "shop-positions" not in {it.topic for it in found}
    assert {it.advice for it in found} == {"Every topic here has 2, so set STREAMAPP_PARTITIONS=2."}
