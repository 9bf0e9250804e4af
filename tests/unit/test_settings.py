"""Settings: every problem at once, in sentences, with no secret in them."""

from __future__ import annotations

import os

import pytest

from streamapp.errors import ConfigurationError
from streamapp.settings import PREFIX, load


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    for name in [n for n in os.environ if n.startswith(PREFIX)]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(str(tmp_path))


def problems(monkeypatch: pytest.MonkeyPatch, **values: str) -> tuple[str, ...]:
    for name, value in values.items():
        monkeypatch.setenv(PREFIX + name, value)
    with pytest.raises(ConfigurationError) as caught:
        load()
    return caught.value.problems


def test_defaults_are_those_of_the_contract() -> None:
    settings = load()
    assert (settings.broker, settings.id, settings.instance) == ("127.0.0.1:9092", "streamapp", None)
    assert (settings.commit_interval, settings.commit_bytes, settings.partitions) == (0.1, 16 << 20, 4)
    assert (settings.session_timeout, settings.transaction_timeout) == (10.0, 10.0)


def test_the_switch_of_the_compiled_modules_is_no_setting_and_no_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{PREFIX}PURE", "1")
    assert load().id == "streamapp"


def test_every_problem_is_reported_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    found = problems(monkeypatch, BROKER="nowhere", PARTITIONS="many", WEB_PORT="70000", COMMIT_INTERVL="1")
    assert len(found) == 4
    assert f"{PREFIX}COMMIT_INTERVL is not a setting; did you mean {PREFIX}COMMIT_INTERVAL?" in found
    assert any(p.startswith(f"{PREFIX}BROKER=nowhere: ") and "host:port" in p for p in found)


def test_contradictions_name_both_settings_and_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "\n".join(
        problems(
            monkeypatch, TRANSACTION_TIMEOUT="30", WEB_HOST="0.0.0.0", SECURITY_PROTOCOL="SASL_SSL", SSL_KEYFILE="k"
        )
    )
    for part in (
        "SESSION_TIMEOUT=10",
        "Lower it",
        "WEB_TOKEN",
        "SASL_PASSWORD",
        "SSL_CERTFILE",
        "k: there is no such file",
    ):
        assert part in text


def test_a_secret_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PREFIX + "SASL_PASSWORD", "opensesame")
    assert "opensesame" not in repr(load())
    assert "opensesame" not in "".join(problems(monkeypatch, PARTITIONS="x"))


@pytest.mark.parametrize("name", ["../up", "", "a/b", "x" * 101, "-x"])
def test_names_that_become_paths_are_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    assert problems(monkeypatch, ID=name)
