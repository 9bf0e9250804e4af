"""The pages in a real Chromium: two workers on Kafka, hostile keys, wide and narrow, light and dark.

SCREENSHOTS=<directory> keeps what it looked like.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from confluent_kafka import Producer

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from service import Service, Worker, wait_until

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.kafka,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed: apt-get install chromium"),
]

HOSTILE = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
]


class Chromium:
    """One page at a time, each in a browser that knows nothing of the last one."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._pages = 0

    def dom(self, url: str) -> str:
        """The document after scripts and styles."""
        return self._run(url, "--dump-dom").stdout.decode("utf-8", "replace")

    def screenshot(self, url: str, name: str, *flags: str, size: str = "1200,800") -> bytes:
        """What a person sees, as a PNG."""
        directory = Path(os.environ.get("SCREENSHOTS", self._directory)).resolve()
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"{name}.png"
        self._run(url, f"--screenshot={path}", f"--window-size={size}", *flags)
        return path.read_bytes()

    def _run(self, url: str, *flags: str) -> subprocess.CompletedProcess[bytes]:
        self._pages += 1
        profile = self._directory / f"profile-{self._pages}"
        assert CHROMIUM is not None
        command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", *flags, url]
        return subprocess.run(command, capture_output=True, timeout=60, check=True)


@pytest.fixture
def chromium(tmp_path: Path) -> Chromium:
    return Chromium(tmp_path)


@pytest.fixture
def service(kafka: Any, topic_prefix: str, tmp_path: Path) -> Iterator[Service]:
    with Service(kafka.bootstrap, topic_prefix, tmp_path) as made:
        made.create_topics()
        yield made


def address_of(worker: Worker) -> str:
    worker.until("views at ")
    found = re.search(r"views at (http://[^\s\"]+)", worker.said)
    assert found is not None
    return found[1]


def is_ready(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/readyz", timeout=5) as answer:  # noqa: S310 - a worker's
            return bool(answer.status == 200)
    except OSError:
        return False


def shown(address: str) -> str:
    with urllib.request.urlopen(address, timeout=5) as answer:  # noqa: S310 - a worker's
        return str(answer.read(), "utf-8")


def test_the_pages_are_readable_and_harmless(service: Service, chromium: Chromium, kafka: Any) -> None:
    workers = [service.worker(name) for name in ("one", "two")]
    first, second = (address_of(worker) for worker in workers)
    for worker, address in zip(workers, (first, second), strict=True):
        wait_until(lambda at=address: is_ready(at), lambda it=worker: it.said)  # type: ignore[misc]
    service.feed(60)
    send(kafka.bootstrap, service.topics.transfer, HOSTILE)
    service.until_committed(61)
    service.assert_pass()

    listed = chromium.dom(f"{first}/tables")
    assert ">balances</a>" in listed
    assert ">inbox</a>" in listed
    # Debits are committed by now; the credits follow through their own topic.
    wait_until(lambda: "/tables/balances/account-" in shown(f"{second}/tables/balances"), lambda: workers[1].said)
    rows = chromium.dom(f"{second}/tables/balances")
    assert "/tables/balances/account-" in rows, rows
    row = f"/tables/balances/{quote(HOSTILE, safe='')}"
    for address in (first, second):
        page = chromium.dom(address + row)
        assert "<title>&lt;script" in page, page
        assert "<script" not in page
        assert "<img" not in page
        assert "&lt;img src=x" in page
    for path, name in (
        ("/tables", "tables"),
        ("/tables/balances?limit=12", "rows"),
        (row, "row"),
        ("/tables/none", "problem"),
    ):
        seen = {
            chromium.screenshot(first + path, name),
            chromium.screenshot(first + path, f"{name}-narrow", size="400,800"),
            chromium.screenshot(
                first + path, f"{name}-dark", "--force-dark-mode", "--blink-settings=preferredColorScheme=0"
            ),
        }
        assert len(seen) == 3  # the style was applied: narrow and dark look otherwise


def send(bootstrap: str, topic: str, account: str) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "partitioner": "murmur2_random", "enable.idempotence": True})
    fields = {"event_id": "hostile", "from_account": "@bank", "to_account": account, "amount": 1, "currency": "EUR"}
    producer.produce(topic, json.dumps({**fields, "occurred_at": "2024-05-01T12:00:00Z"}).encode(), b"@bank")
    assert producer.flush(30) == 0
