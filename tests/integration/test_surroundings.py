"""What a worker says of a Kafka that it cannot use: each in a sentence that names what to change, and none for ever."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streamapp.client.cluster import connect, security_options
from streamapp.errors import ConfigurationError, Unavailable
from streamapp.ops.check import check
from streamapp.settings import load

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from guarded_kafka import CERTIFICATE, NOWHERE, PASSWORD, USER, GuardedKafka

pytestmark = pytest.mark.kafka


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedKafka]:
    cluster = GuardedKafka(tmp_path_factory.mktemp("guarded"))
    cluster.start()
    try:
        yield cluster
    finally:
        cluster.kill()


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    """After a handshake that failed, asyncio's own transport says that it was never closed when it is collected."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def sasl(protocol: str = "SASL_PLAINTEXT", **other: str) -> dict[str, str]:
    return {
        "security_protocol": protocol,
        "sasl_mechanism": "PLAIN",
        "sasl_username": USER,
        "sasl_password": PASSWORD,
        **other,
    }


async def attempt(broker: str, **options: Any) -> None:
    settings = load(broker=broker, **options)
    await (await connect(settings.broker, security=security_options(settings))).close()


@pytest.mark.parametrize(
    ("listener", "options"),
    [
        ("bootstrap", {}),
        ("guarded", sasl()),
        ("tls", {"security_protocol": "SSL", "ssl_cafile": str(CERTIFICATE)}),
    ],
)
async def test_who_is_spoken_to_as_he_wants_answers(guarded: GuardedKafka, listener: str, options: Any) -> None:
    await attempt(getattr(guarded, listener), **options)


TLS = {"ssl_cafile": str(CERTIFICATE)}


@pytest.mark.parametrize(
    ("listener", "options", "said"),
    [
        ("bootstrap", {"security_protocol": "SSL"}, "SECURITY_PROTOCOL=PLAINTEXT"),
        ("bootstrap", sasl(), "SECURITY_PROTOCOL=PLAINTEXT"),
        ("bootstrap", sasl("SASL_SSL"), "SECURITY_PROTOCOL=PLAINTEXT"),
        ("guarded", {}, "SECURITY_PROTOCOL=SASL_PLAINTEXT, STREAMAPP_SASL_MECHANISM (it takes PLAIN)"),
        ("guarded", {"security_protocol": "SSL"}, "SECURITY_PROTOCOL=SASL_PLAINTEXT"),
        ("guarded", sasl("SASL_SSL"), "SECURITY_PROTOCOL=SASL_PLAINTEXT"),
        (
            "guarded",
            sasl(sasl_mechanism="SCRAM-SHA-256"),
            "does not take STREAMAPP_SASL_MECHANISM=SCRAM-SHA-256 but PLAIN",
        ),
        ("guarded", sasl(sasl_password="wrong"), "refused the credentials"),
        ("tls", {}, "SECURITY_PROTOCOL=SSL"),
        ("tls", sasl(), "SECURITY_PROTOCOL=SSL"),
        ("tls", sasl("SASL_SSL", **TLS), "SECURITY_PROTOCOL=SSL"),
        ("tls", {"security_protocol": "SSL"}, "is not trusted"),
    ],
)
async def test_who_wants_to_be_spoken_to_otherwise_is_understood_at_once(
    guarded: GuardedKafka, listener: str, options: Any, said: str
) -> None:
    address = getattr(guarded, listener)
    with pytest.raises(ConfigurationError) as caught:
        await attempt(address, **options)
    assert not isinstance(caught.value, Unavailable), "waiting would change nothing"
    assert said in str(caught.value) and address in str(caught.value)
    assert "the-workers-password" not in str(caught.value)


@pytest.mark.parametrize(("listener", "where"), [("unknown", NOWHERE), ("closed", "127.0.0.1:1")])
async def test_a_broker_that_advertises_where_nobody_can_reach_it(
    guarded: GuardedKafka, listener: str, where: str
) -> None:
    with pytest.raises(Unavailable) as caught:
        await attempt(getattr(guarded, listener))
    for part in (getattr(guarded, listener), f"node 1 at {where}", "advertised.listeners"):
        assert part in str(caught.value)


async def test_somebody_else_at_the_address_is_not_waited_for_in_silence() -> None:
    import asyncio

    async def web(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(web, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        with pytest.raises(Unavailable, match=f"No broker of 127.0.0.1:{port} answered \\(127.0.0.1:{port}: ."):
            await attempt(f"127.0.0.1:{port}")


def test_a_worker_waits_as_long_as_it_is_told_and_says_what_it_waited_for(
    guarded: GuardedKafka, tmp_path: Path
) -> None:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("STREAMAPP_")}
    run = subprocess.run(
        [sys.executable, "-m", "streamapp.cli", "worker", "--without-web", "--wait", "1"],
        env=plain | {"STREAMAPP_BROKER": guarded.unknown, "STREAMAPP_STORE": "memory"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 1
    assert f"node 1 at {NOWHERE}" in run.stderr.splitlines()[-1] and "advertised.listeners" in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize(
    ("listener", "said"), [("unknown", NOWHERE), ("guarded", "STREAMAPP_SECURITY_PROTOCOL=SASL_PLAINTEXT")]
)
async def test_check_says_the_same_as_a_worker(guarded: GuardedKafka, listener: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        await check(load(broker=getattr(guarded, listener)))
