"""A broker that is away, stands still, or refuses the credentials: a clear line, a bounded end, nothing lost."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import (
    AdminClient,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from streamapp.client.environment import KafkaEnvironment
from streamapp.embedded import kafka as embedded
from streamapp.embedded import ports
from streamapp.embedded.kafka import Kafka
from streamapp.errors import ConfigurationError, Unavailable
from streamapp.ops.feed import FeedKind, feed, numbered
from streamapp.settings import load
from streamapp.topics import TopicSpec
from streamapp.types import Partition

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from proxy import Action, Api, Proxy
from service import BOUND_S, Service

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]

#: What SIGTERM takes at most, and room for a loaded machine.
ENDS_WITHIN_S = 20.0 + 40.0
PASSWORD = "correct-horse"
#: How often a broker stands still under load, and for how long: past the worker's time-outs.
PAUSES, PAUSE_S = 6, 4.0
#: Transactions and sessions outlive the broker's absence here, as they do with the default of 10 s.
PATIENT = {"SESSION_TIMEOUT": 10, "TRANSACTION_TIMEOUT": 10}


class Secured(Kafka):
    """A cluster of the test's own with a second listener that asks for SASL credentials."""

    sasl_port: int

    @property
    def secured(self) -> str:
        return f"127.0.0.1:{self.sasl_port}"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """A broker that may be killed and stopped."""
    plain = embedded.server_properties
    cluster = Secured(tmp_path_factory.mktemp("own"), port=0, die_with_parent=True)

    def with_sasl(place: Any, places: Any, log_dir: Path) -> str:
        cluster.sasl_port = ports.any_free([place.port, place.controller_port])
        sasl = f"SASL://127.0.0.1:{cluster.sasl_port}"
        lines = plain(place, places, log_dir).splitlines()
        module = "org.apache.kafka.common.security"
        changed = [
            f"{line},{sasl}"
            if line.startswith(("listeners=", "advertised.listeners="))
            else f"{line},SASL:SASL_PLAINTEXT"
            if line.startswith("listener.security.protocol.map=")
            else line
            for line in lines
        ]
        changed += [
            "listener.name.sasl.sasl.enabled.mechanisms=SCRAM-SHA-256",
            f"listener.name.sasl.scram-sha-256.sasl.jaas.config={module}.scram.ScramLoginModule required;",
        ]
        return "\n".join(changed) + "\n"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedded, "server_properties", with_sasl)
        cluster.start()
    try:
        yield cluster
    finally:
        cluster.nodes[0].resume()
        cluster.kill()


@pytest.fixture
def service(own: Secured, topic_prefix: str, tmp_path: Path) -> Iterator[Service]:
    if not own.nodes[0].is_alive():  # a test that failed left it dead
        back(own)
    with Service(own.bootstrap, topic_prefix, tmp_path) as service:
        service.create_topics()
        yield service


def back(own: Secured) -> None:
    own.nodes[0].start()
    own.wait_until_ready()


def test_a_broker_that_dies_is_waited_for_and_the_work_goes_on(own: Secured, service: Service) -> None:
    # Longer than a slow machine needs to start a broker: one that aborts a transaction of its own accord while it
    # starts may forget the markers (docs/guarantees.md).
    worker = service.worker(SESSION_TIMEOUT=40, TRANSACTION_TIMEOUT=40)
    worker.until("ready after")
    feeding = service.feeding(600, rate=200)
    service.until_committed(100)
    own.nodes[0].kill()
    worker.until("Still ")
    back(own)
    feeding.join(BOUND_S)
    report = service.assert_pass()
    # A sender whose broker is killed may repeat itself, in the topic too; each transfer has its effect once.
    assert report.summary.records_in - report.summary.duplicates == 600
    assert worker.exit_code is None, worker.said
    assert worker.stop() == 0, worker.said


def test_a_broker_that_stands_still_again_and_again_is_waited_for_and_nothing_counts_twice(
    own: Secured, service: Service
) -> None:
    """Its controller fenced it for that, while it ended what had timed out: what was aborted became visible."""
    worker = service.worker()  # the time-outs are over when it goes on
    worker.until("ready after")
    for _ in range(PAUSES):
        feeding = service.feeding(400, rate=200)
        service.until_committed(service.committed() + 50)
        own.nodes[0].pause()
        time.sleep(PAUSE_S)
        own.nodes[0].resume()
        feeding.join(BOUND_S)
    report = service.assert_pass()
    assert report.summary.records_in - report.summary.duplicates == 400 * PAUSES
    assert not [it for it in own.nodes[0].log.read_text().splitlines() if "its session has timed out" in it]
    assert worker.exit_code is None, worker.said
    assert worker.stop() == 0, worker.said


def test_a_broker_that_is_down_at_the_start_is_waited_for(own: Secured, service: Service) -> None:
    service.feed(100)
    own.nodes[0].kill()
    worker = service.worker()
    worker.until("Still connecting to Kafka at")
    back(own)
    worker.until("ready after")
    service.assert_pass()
    assert worker.stop() == 0, worker.said


async def test_topics_and_changelogs_of_a_broker_that_is_away_or_fenced_are_unavailable(own: Secured) -> None:
    """Which a worker waits out: its client's own errors, NodeNotReadyError for one, were the end of it."""
    node = own.nodes[0]
    environment = KafkaEnvironment(load(broker=own.bootstrap, id="unavailable"), None)
    wanted = {"unavailable": TopicSpec("unavailable", 1, 1, {})}

    async def refusal() -> str:
        with pytest.raises(Unavailable) as refused:
            await environment.create_topics(lambda *_: wanted)
        return str(refused.value)

    node.kill()
    try:
        assert "KafkaConnectionError" in await refusal()
        with pytest.raises(Unavailable, match="KafkaConnectionError"):
            await environment.changelogs({Partition("unavailable", 0): 0})
        properties = node.directory / "server.properties"
        usual = properties.read_text()
        # Its controller fences it between two heartbeats, as it does a broker that stood still.
        seldom = re.sub("(broker.heartbeat.interval.ms)=.*", r"\1=10000", usual)
        properties.write_text(re.sub("(broker.session.timeout.ms)=.*", r"\1=2000", seldom))
        node.start()
        client = AdminClient({"bootstrap.servers": own.bootstrap, "log_level": 0})
        async with asyncio.timeout(60):
            while await asyncio.to_thread(_brokers, client) != 0:  # noqa: ASYNC110 - it is another process's
                await asyncio.sleep(0.1)
        assert "NodeNotReadyError" in await refusal()
        node.kill()
        properties.write_text(usual)
    finally:
        node.kill()
        back(own)  # not in a thread, whose end would be the end of what it started
    assert await environment.create_topics(lambda *_: wanted) == ["unavailable"]


_ASKS = """\
import sys
from streamapp.audit.broker import Broker
print(Broker({"bootstrap.servers": sys.argv[1]}, timeout_s=30.0).committed("anybody", {"transfer": 1}))
"""
#: The end of an answer: no offsets, error 16, no tags.
_NOT_COORDINATOR = b"\x01\x00\x10\x00\x00"


def test_the_auditor_outlives_a_coordinator_that_has_moved(own: Secured) -> None:
    """Seen where a broker stood still and was fenced: one of the client's calls then ended the process (SIGSEGV)."""
    if not own.nodes[0].is_alive():
        back(own)
    admin = AdminClient({"bootstrap.servers": own.bootstrap})
    for _ in range(10):  # it may be the coordinator still, or again
        with Proxy(own.bootstrap) as proxy:
            late = proxy.on(Api.OFFSET_FETCH, Action.HOLD)
            asking = subprocess.Popen([sys.executable, "-c", _ASKS, proxy.bootstrap], stdout=subprocess.PIPE, text=True)
            try:
                late.wait()
                # Without its log the only broker is nobody's coordinator, until it is looked for again.
                admin.delete_topics(["__consumer_offsets"])["__consumer_offsets"].result(60)
                time.sleep(0.5)
                answer = late.release()
                said, _ = asking.communicate(timeout=60)
            finally:
                asking.kill()
                asking.wait()
        assert (asking.returncode, said) == (0, "{('transfer', 0): 0}\n")
        if answer.endswith(_NOT_COORDINATOR):
            return
    pytest.fail("the broker was the coordinator each time")


def _brokers(client: AdminClient) -> int | None:
    """How many brokers are in service; None while there is no answer."""
    try:
        return len(client.list_topics(timeout=5).brokers)
    except KafkaException:
        return None


def test_sigterm_ends_a_worker_whose_broker_is_away(own: Secured, service: Service) -> None:
    worker = service.worker(**PATIENT)
    worker.until("ready after")
    feeding = service.feeding(200, rate=200)
    service.until_committed(20)
    own.nodes[0].pause()
    worker.until("Still ")
    began = time.monotonic()
    worker.send(signal.SIGTERM)
    try:
        code = worker.wait(ENDS_WITHIN_S)
    finally:
        own.nodes[0].resume()
    print(f"ended {time.monotonic() - began:.1f} s after SIGTERM with {code}")
    assert code == 1, worker.said
    assert "uncommitted events are aborted and will run again" in worker.said
    feeding.join(BOUND_S)
    heir = service.worker(state="other")
    service.assert_pass()
    assert heir.stop() == 0, heir.said


def test_credentials_are_refused_at_once_or_work(own: Secured, service: Service) -> None:
    admin = AdminClient({"bootstrap.servers": own.bootstrap})
    credential = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 4096)
    change = UserScramCredentialUpsertion("alice", credential, PASSWORD.encode())
    for future in admin.alter_user_scram_credentials([change]).values():
        future.result(60)
    service.feed(50)
    login = {"SECURITY_PROTOCOL": "SASL_PLAINTEXT", "SASL_MECHANISM": "SCRAM-SHA-256", "SASL_USERNAME": "alice"}
    wrong = service.worker(BROKER=own.secured, **login, SASL_PASSWORD="wrong")
    assert wrong.wait() == 2, wrong.said
    assert "refused the credentials" in wrong.said
    assert "Check SECURITY_PROTOCOL and the SASL_ settings" in wrong.said
    assert "Traceback" not in wrong.said
    right = service.worker(BROKER=own.secured, **login, SASL_PASSWORD=PASSWORD)
    right.until("ready after")

    # The commands that are not workers have clients of their own.
    options = {name.lower(): value for name, value in login.items()}
    kind = FeedKind(service.topics.transfer, "from_account")
    record = (
        b'{"event_id":"fed","from_account":"@bank","to_account":"a","amount":1,"currency":"EUR",'
        b'"occurred_at":"2024-05-01T12:00:00Z"}'
    )
    assert feed(load(broker=own.secured, **options, sasl_password=PASSWORD), kind, numbered([record])).clean
    with pytest.raises(ConfigurationError, match="uthentication"):
        feed(load(broker=own.secured, **options, sasl_password="wrong"), kind, numbered([record]), reach_timeout_s=5)
    librdkafka = {
        "bootstrap.servers": own.secured,
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "SCRAM-SHA-256",
        "sasl.username": "alice",
    }
    service.assert_pass()
    report = service.audit(config={**librdkafka, "sasl.password": PASSWORD})
    assert (report.verdict.name, report.records_read[service.topics.transfer]) == ("PASS", 51)
    refused = service.audit(config={**librdkafka, "sasl.password": "wrong"}, timeout_s=5)
    assert refused.verdict.name == "UNKNOWN"
    assert "uthentication" in " ".join(refused.reasons)
    assert right.stop() == 0, right.said
    assert PASSWORD not in right.said
