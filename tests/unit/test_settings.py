"""Settings: every problem at once, in sentences, with no secret in them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from streamapp.errors import ConfigurationError
from streamapp.settings import PREFIX, Settings, load


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


@pytest.mark.parametrize(
    ("broker", "said"),
    [
        ("kafka://a;kafka://b", "without a scheme, and with commas between several: a,b"),
        ("kafka://a:9092;kafka://b:9092", "without a scheme, and with commas between several: a:9092,b:9092"),
        ("kafka://a:9092", "without a scheme, and with commas between several: a:9092"),
        ("a:9092;b:9092", "with commas between several: a:9092,b:9092"),
        ("::1:9", "an IPv6 address stands in brackets"),
        ("fe80::1", "an IPv6 address stands in brackets"),
        ("[::1]", "is not host:port"),
        ("[]:9", "is not host:port"),
        ("a b:9092", "is not host:port"),
        ("a:9092,", "is not host:port"),
        ("a:٩٠٩٢", "is not host:port"),
        ("a:0", "is not host:port"),
        ("a:65536", "is not host:port"),
        ("user@host:1", "is not host:port"),
    ],
)
def test_a_broker_that_is_none_is_explained(monkeypatch: pytest.MonkeyPatch, broker: str, said: str) -> None:
    (problem,) = problems(monkeypatch, BROKER=broker)
    assert said in problem


@pytest.mark.parametrize("broker", ["[::1]:9092", "a_b-c.d:1, 127.0.0.1:65535", "[fe80::1%eth0]:9092"])
def test_a_broker_that_is_one_is_taken(monkeypatch: pytest.MonkeyPatch, broker: str) -> None:
    monkeypatch.setenv(PREFIX + "BROKER", broker)
    assert load().broker == broker.replace(" ", "")


NUMBERS = [
    name for name, field in Settings.model_fields.items() if field.annotation in (float, int, int | None, float | None)
]


@pytest.mark.parametrize("text", ["inf", "-inf", "nan", "-1", "1e308", "1e-300", "1" + "0" * 400, "9" * 5000, "0x10"])
@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_that_nothing_can_be_made_of_is_said(monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    """Whatever is taken can be counted in milliseconds; WINDOW_GRACE and WINDOW_IDLE may be as small as one likes."""
    if text == "1e-300" and name in ("window_grace", "window_idle", "commit_interval"):
        monkeypatch.setenv(PREFIX + name.upper(), text)
        assert int(getattr(load(), name) * 1000) == 0
        return
    found = problems(monkeypatch, **{name.upper(): text})
    assert any(name.upper() in problem for problem in found)


def test_the_advice_about_time_outs_is_taken_by_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    (problem,) = problems(monkeypatch, TRANSACTION_TIMEOUT="30")
    assert f"raise {PREFIX}SESSION_TIMEOUT to as much" in problem
    monkeypatch.setenv(PREFIX + "SESSION_TIMEOUT", "30")
    assert load().transaction_timeout == 30


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"STREAMAPP_ID=\xff\xfe", "is not UTF-8 (byte 13)"),
        ("STREAMAPP_ID=shop\n".encode("utf-16"), "is not UTF-8 (byte 0)"),
        (b"STREAMAPP_BROKR=a:1\n", "STREAMAPP_BROKR is not a setting; did you mean STREAMAPP_BROKER?"),
        (b"streamapp_brokr=a:1\n", "streamapp_brokr is not a setting; did you mean STREAMAPP_BROKER?"),
        (b"STREAMAP_BROKER=a:1\n", "STREAMAP_BROKER is not a setting; did you mean STREAMAPP_BROKER?"),
        (b"STREAMAPP_QWERTYUIOP=1\n", "STREAMAPP_QWERTYUIOP is not a setting"),
        (b"A=1\nSTREAMAPP_ID\n", "line 2, is no NAME=value: 'STREAMAPP_ID'"),
        (b"A=1\nSTREAMAPP_ID='shop\n", "line 2, is no NAME=value"),
        (b"STREAMAPP_BROKER=kafka://a\n", "without a scheme"),
    ],
)
def test_what_is_wrong_with_the_env_file_is_said(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / ".env").write_bytes(content)
    with pytest.raises(ConfigurationError) as caught:
        load()
    assert said in str(caught.value)


def test_an_env_file_that_may_not_be_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("STREAMAPP_ID=shop\n")

    def refuse(*_: object, **__: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", refuse)  # root may read everything
    with pytest.raises(ConfigurationError, match="cannot be read \\(Permission denied\\)"):
        load()


@pytest.mark.parametrize(
    "content", [b"\xef\xbb\xbfSTREAMAPP_ID=shop\n", b"export STREAMAPP_ID=shop # ours\nOTHER={'\n"]
)
def test_an_env_file_with_a_mark_or_names_of_others_is_read(tmp_path: Path, content: bytes) -> None:
    (tmp_path / ".env").write_bytes(content)
    assert load().id == "shop"


def test_a_directory_called_env_is_none_of_ours(tmp_path: Path) -> None:
    (tmp_path / ".env").mkdir()
    assert load().id == "streamapp"


@pytest.mark.parametrize("content", [b"", b"no certificate", b"\x00\x01\x02", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_a_file_of_certificates_that_holds_none_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    (tmp_path / "ca.pem").write_bytes(content)
    found = problems(
        monkeypatch, SECURITY_PROTOCOL="SSL", SSL_CAFILE="ca.pem", SSL_CERTFILE="ca.pem", SSL_KEYFILE="ca.pem"
    )
    assert "holds no certificate authority in PEM" in found[0] and "the key without a pass phrase" in found[0]
