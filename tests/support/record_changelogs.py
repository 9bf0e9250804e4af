"""Record what this version's worker writes into its changelogs, for later versions to restore. Run once a release:

    .venv/bin/python tests/support/record_changelogs.py tests/data

It starts a Kafka of its own, feeds transfers to a real worker, waits for the auditor's PASS and writes
`changelogs-<version>.jsonl`: a first line with the transfers and the balances the auditor computed, then one changelog
record a line. `tests/integration/test_records_versions.py` restores every such file.
"""

from __future__ import annotations

import base64
import json
import sys
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, TopicPartition
from service import PARTITIONS, Service

from streamapp.embedded.kafka import Kafka

TRANSFERS = 200
TABLES = ("balances", "inbox")


def recorded(bootstrap: str, directory: Path) -> Iterator[dict[str, Any]]:
    """The lines of the file."""
    with Service(bootstrap, "recorded", directory) as service:
        service.create_topics()
        worker = service.worker()
        service.feed(TRANSFERS)
        service.until_committed(TRANSFERS)
        report = service.assert_pass()
        assert worker.stop() == 0, worker.said
        transfers = [_text(message) for message in _read(bootstrap, service.topics.transfer)]
        accounts = sorted({account for it in transfers for account in _accounts(it[1])})
        yield {
            "version": metadata.version("streamapp"),
            "partitions": PARTITIONS,
            "transfers": transfers,
            "balances": {account: report.balance(account, "EUR") for account in accounts},
        }
        for table in TABLES:
            for message in _read(bootstrap, f"{service.id}-{table}-changelog"):
                yield {
                    "table": table,
                    "partition": message.partition(),
                    "key": _base64(message.key()),
                    "value": _base64(message.value()),
                }


def _read(bootstrap: str, topic: str) -> list[Any]:
    options = {"bootstrap.servers": bootstrap, "group.id": "none", "enable.auto.commit": False}
    consumer = Consumer({**options, "isolation.level": "read_committed", "enable.partition.eof": True})
    try:
        consumer.assign([TopicPartition(topic, number, 0) for number in range(PARTITIONS)])
        found, ends = [], 0
        while ends < PARTITIONS:
            message = consumer.poll(60)
            assert message is not None, f"no end of {topic}"
            if message.error() is None:
                found.append(message)
            else:
                ends += 1
        return sorted(found, key=lambda it: (it.partition(), it.offset()))
    finally:
        consumer.close()


def _text(message: Any) -> tuple[str, str]:
    return message.key().decode(), message.value().decode()


def _accounts(value: str) -> tuple[str, str]:
    transfer = json.loads(value)
    return transfer["from_account"], transfer["to_account"]


def _base64(raw: bytes | None) -> str | None:
    return None if raw is None else base64.b64encode(raw).decode()


def main() -> None:
    path = Path(sys.argv[1]) / f"changelogs-{metadata.version('streamapp')}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        kafka = Kafka(Path(name) / "kafka", port=0, die_with_parent=True)
        kafka.start()
        try:
            lines = [json.dumps(line, separators=(",", ":")) for line in recorded(kafka.bootstrap, Path(name))]
        finally:
            kafka.kill()
    path.write_text("\n".join(lines) + "\n")
    print(f"{path}: {len(lines) - 1} records")


if __name__ == "__main__":
    main()
