"""Settings: environment variables and a `.env` file, prefix `STREAMAPP_`, every problem reported at once.

The field's name in upper case is the variable's; its description is what the documentation prints.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from streamapp.errors import ConfigurationError

PREFIX = "STREAMAPP_"

#: Kafka refuses topic names longer than this; `<ID>-<table>-changelog` must fit.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

_SECRETS = frozenset({"sasl_password", "web_token", "database_url"})


def _checked_brokers(text: str) -> str:
    for server in text.split(","):
        host, colon, port = server.strip().rpartition(":")
        if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
            raise ValueError(f"{server.strip()!r} is not host:port; several are separated by commas")
    return ",".join(server.strip() for server in text.split(","))


def _checked_name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError("must be 1 to 100 letters, digits, '.', '_' or '-', and begin with a letter or digit")
    return text


def _checked_optional_name(text: str | None) -> str | None:
    return _checked_name(text) if text else None


class Settings(BaseSettings):
    """The settings of a worker and of every command. Build it with `load()`, which explains what is wrong."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=".env", extra="ignore", frozen=True, hide_input_in_errors=True
    )

    broker: Annotated[str, AfterValidator(_checked_brokers)] = Field(
        "127.0.0.1:9092", description="Kafka, host:port, comma separated"
    )
    id: Annotated[str, AfterValidator(_checked_name)] = Field(
        "streamapp", description="application and consumer group id"
    )
    instance: Annotated[str | None, AfterValidator(_checked_optional_name)] = Field(
        None,
        description="stable name of this worker (group.instance.id, part of its transactional.id); unset: dynamic",
    )
    processing_guarantee: Literal["exactly_once", "at_least_once"] = Field(
        "exactly_once", description="what a commit promises"
    )
    datadir: Path = Field(Path(".streamapp/state"), description="state is under DATADIR/ID/INSTANCE")
    store: Literal["rocksdict", "memory"] = Field("rocksdict", description="where tables are kept")
    web_host: str = Field("127.0.0.1", description="address of the web views; any but loopback needs WEB_TOKEN")
    web_port: int = Field(6066, ge=0, le=65535, description="port of the web views; taken: the next free one, printed")
    web_token: SecretStr | None = Field(None, description="bearer token of the web views")
    database_url: SecretStr | None = Field(None, description="PostgreSQL, for the outbox and the inbox beside it")
    commit_interval: float = Field(0.1, gt=0, le=60, description="seconds between commits")
    commit_events: int | None = Field(None, ge=1, description="commit after this many events, if that is sooner")
    commit_bytes: int = Field(
        16 << 20, ge=1 << 20, le=1 << 30, description="bytes of outputs that make a transaction commit at once"
    )
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = Field(
        "none", description="how what a worker writes is compressed: none, gzip, snappy, lz4 or zstd"
    )
    session_timeout: float = Field(
        10.0, ge=1, le=1800, description="seconds of silence after which a worker loses its partitions"
    )
    transaction_timeout: float = Field(
        10.0, ge=1, le=900, description="seconds after which the broker aborts an open transaction"
    )
    partitions: int = Field(4, ge=1, le=10_000, description="partitions of the topics that are created")
    replication_factor: int | None = Field(
        None, ge=1, le=32, description="copies of each topic; unset: the smaller of 3 and the brokers"
    )
    inbox_retention: float = Field(7 * 86_400.0, gt=0, description="seconds an inbox remembers an event id")
    window_size: float = Field(60.0, gt=0, description="seconds of a window")
    window_grace: float = Field(10.0, ge=0, description="seconds a record may be late")
    window_idle: float = Field(0.0, ge=0, description="seconds of silence that close a partition's windows; 0: off")
    payment_limit: int = Field(10_000_000, ge=1, description="largest payment, in minor units")
    log_format: Literal["console", "json"] = Field("console", description="how log lines look")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="how to talk to Kafka"
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = Field(
        None, description="SASL mechanism"
    )
    sasl_username: str | None = Field(None, description="SASL user")
    sasl_password: SecretStr | None = Field(None, description="SASL password")
    ssl_cafile: Path | None = Field(None, description="certificate authorities, PEM")
    ssl_certfile: Path | None = Field(None, description="client certificate, PEM")
    ssl_keyfile: Path | None = Field(None, description="client key, PEM")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        problems = list(_contradictions(self))
        if problems:
            raise ValueError("\n".join(problems))
        return self

    @property
    def state_directory(self) -> Path:
        """Where this worker keeps its tables; a worker without INSTANCE shares the name `dynamic`."""
        return self.datadir / self.id / (self.instance or "dynamic")


def _contradictions(settings: Settings) -> list[str]:
    """What no single field shows: pairs of settings that break the guarantee or the security of the views."""
    problems = []
    if settings.transaction_timeout > settings.session_timeout:
        problems.append(
            f"{PREFIX}TRANSACTION_TIMEOUT={settings.transaction_timeout:g} is above {PREFIX}SESSION_TIMEOUT="
            f"{settings.session_timeout:g}: a dead worker's transaction would outlive its membership. Lower it."
        )
    if settings.commit_interval * 3 > settings.transaction_timeout:
        problems.append(
            f"{PREFIX}COMMIT_INTERVAL={settings.commit_interval:g} leaves no room in {PREFIX}TRANSACTION_TIMEOUT="
            f"{settings.transaction_timeout:g}. Commit at least three times as often as transactions time out."
        )
    if not is_loopback(settings.web_host) and settings.web_token is None:
        problems.append(
            f"{PREFIX}WEB_HOST={settings.web_host} is reachable from outside. Set {PREFIX}WEB_TOKEN, or use 127.0.0.1."
        )
    if settings.security_protocol.startswith("SASL"):
        missing = [n for n in ("sasl_mechanism", "sasl_username", "sasl_password") if getattr(settings, n) is None]
        if missing:
            names = ", ".join(PREFIX + name.upper() for name in missing)
            problems.append(f"{PREFIX}SECURITY_PROTOCOL={settings.security_protocol} needs {names}.")
    if (settings.ssl_certfile is None) != (settings.ssl_keyfile is None):
        problems.append(f"{PREFIX}SSL_CERTFILE and {PREFIX}SSL_KEYFILE go together: set both or neither.")
    for name in ("ssl_cafile", "ssl_certfile", "ssl_keyfile"):
        path = getattr(settings, name)
        if path is not None and not path.is_file():
            problems.append(f"{PREFIX}{name.upper()}={path}: there is no such file.")
    return problems


def is_loopback(host: str) -> bool:
    """Whether an address or name is this machine's own, so that nobody else reaches it."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def load(**overrides: Any) -> Settings:
    """The settings in force. Raises `ConfigurationError` with every problem, none of which shows a secret."""
    problems = _unknown_names()
    try:
        settings = Settings(**{name: value for name, value in overrides.items() if value is not None})
    except ValidationError as exc:
        raise ConfigurationError(*problems, *(_explained(error) for error in exc.errors())) from None
    if problems:
        raise ConfigurationError(*problems)
    return settings


#: Read before there are settings, by `native.py`.
_NO_SETTING = f"{PREFIX}PURE"


def _unknown_names() -> list[str]:
    known = [_NO_SETTING, *(PREFIX + name.upper() for name in Settings.model_fields)]
    problems = []
    for name in sorted(os.environ):
        if name.startswith(PREFIX) and name not in known:
            near = difflib.get_close_matches(name, known, 1)
            problems.append(f"{name} is not a setting{f'; did you mean {near[0]}?' if near else '.'}")
    return problems


def _explained(error: Any) -> str:
    """One problem in one sentence: the variable, its value unless it is a secret, and what is expected."""
    message = str(error["msg"]).removeprefix("Value error, ")
    if not error["loc"]:
        return message
    name = str(error["loc"][0])
    value = os.environ.get(PREFIX + name.upper())
    shown = f"={value}" if value is not None and name not in _SECRETS else ""
    return f"{PREFIX}{name.upper()}{shown}: {message[:1].lower()}{message[1:]}"
