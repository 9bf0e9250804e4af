"""A whole worker under load behind a proxy that takes answers away, at every call of a commit and of a start."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from proxy import Action, Api, Proxy
from service import Service

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(400)]

#: What a worker asks once, at its start and at an assignment; the connection is cut in place of each answer.
AT_START = (
    Api.METADATA,
    Api.FIND_COORDINATOR,
    Api.INIT_PRODUCER_ID,
    Api.JOIN_GROUP,
    Api.SYNC_GROUP,
    Api.OFFSET_FETCH,
    Api.LIST_OFFSETS,
)
COMMIT = (Api.PRODUCE, Api.TXN_OFFSET_COMMIT, Api.END_TXN)
#: Each costs the 5 s of a request's time-out; `test_proxy_transactions.py` has every pair.
SILENT = ((Api.PRODUCE, Action.DROP_REQUEST), (Api.END_TXN, Action.DROP_ANSWER))
QUICK = (Action.LOSE_ANSWER, Action.RESET, Action.TWICE, Action.DELAY)


@pytest.fixture
def service(kafka: Any, topic_prefix: str, tmp_path: Path) -> Iterator[Service]:
    with Service(kafka.bootstrap, topic_prefix, tmp_path) as service:
        service.create_topics()
        yield service


def test_no_lost_answer_of_a_start_or_a_commit_loses_or_doubles_anything(service: Service) -> None:
    with Proxy(service.bootstrap) as proxy:
        # The second Metadata request: without an answer to the very first there is no broker for aiokafka.
        starting = [proxy.on(api, Action.LOSE_ANSWER, nth=2 if api is Api.METADATA else 1) for api in AT_START]
        worker = service.worker(BROKER=proxy.bootstrap, SESSION_TIMEOUT=10, TRANSACTION_TIMEOUT=10)
        feeding = service.feeding(3000, rate=300)
        worker.until("ready after")
        assert [rule.api.name for rule in starting if not rule.hits] == []
        for api in COMMIT:
            for action in QUICK:
                proxy.on(api, action, seconds=0.2).wait()
        for api in (Api.FETCH, Api.HEARTBEAT):
            proxy.on(api, Action.LOSE_ANSWER).wait()
        for rule in [proxy.on(api, action) for api, action in SILENT]:
            rule.wait()
        feeding.join(60)
        report = service.assert_pass()
        assert report.records_read[service.topics.transfer] == 3000
        assert worker.exit_code is None, worker.said
        assert worker.stop() == 0, worker.said
