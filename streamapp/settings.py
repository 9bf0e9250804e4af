"""Settings: environment variables and a `.env` file, prefix `STREAMAPP_`, every problem reported at once.

The field's name in upper case is the variable's; its description is what the documentation prints.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from streamapp import setting_files
from streamapp.errors import ConfigurationError

PREFIX = "STREAMAPP_"

#: Kafka refuses topic names longer than this; `<ID>-<table>-changelog` must fit.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

ENV_FILE = ".env"

#: How alike a name is to a setting that is meant, with a slip in the prefix; that of another program is not.
_ALIKE = 0.9

_SECRETS = frozenset({"sasl_password", "web_token", "database_url"})


#: host:port; an IPv6 address stands in brackets, or its end could not be told from the port.
_SERVER = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+(?:%[A-Za-z0-9._-]+)?\]):([0-9]{1,5})")

#: Seconds of the longest retention and window: a hundred years.
_LONGEST_S = 100 * 365 * 86_400.0


def _checked_brokers(text: str) -> str:
    servers = [server.strip() for server in text.split(",")]
    for server in servers:
        matched = _SERVER.fullmatch(server)
        if "://" in server or ";" in server:
            plain = ",".join(re.split(r"[;,]+", re.sub(r"[a-z+]+://", "", text)))
            raise ValueError(f"write it without a scheme, and with commas between several: {plain}")
        if server.count(":") > 1 and not server.startswith("["):
            raise ValueError(f"{server!r}: an IPv6 address stands in brackets, such as [::1]:9092")
        if matched is None or not 0 < int(matched[1]) < 65536:
            raise ValueError(f"{server!r} is not host:port; several are separated by commas")
    return ",".join(servers)


def _checked_name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError("must be 1 to 100 letters, digits, '.', '_' or '-', and begin with a letter or digit")
    return text


def _checked_optional_name(text: str | None) -> str | None:
    return _checked_name(text) if text else None


class Settings(BaseSettings):
    """The settings of a worker and of every command. Build it with `load()`, which explains what is wrong."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=ENV_FILE,
        env_file_encoding=setting_files.ENCODING,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        allow_inf_nan=False,
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
    service: Path | None = Field(
        None, description="directory of the service's packages agents and tables; unset: beside streamapp"
    )
    store: Literal["rocksdict", "memory"] = Field("rocksdict", description="where tables are kept")
    web_host: str = Field("127.0.0.1", description="address of the web views; any but loopback needs WEB_TOKEN")
    web_port: int = Field(6066, ge=0, le=65535, description="port of the web views; taken: the next free one, printed")
    web_token: SecretStr | None = Field(None, description="bearer token of the web views")
    database_url: SecretStr | None = Field(None, description="PostgreSQL, for the outbox and the inbox beside it")
    commit_interval: float = Field(0.1, gt=0, le=60, description="seconds between commits")
    commit_events: int | None = Field(
        None, ge=1, le=1_000_000_000, description="commit after this many events, if that is sooner"
    )
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
    inbox_retention: float = Field(
        7 * 86_400.0, ge=1, le=_LONGEST_S, description="seconds an inbox remembers an event id"
    )
    window_size: float = Field(60.0, ge=0.001, le=_LONGEST_S, description="seconds of a window")
    window_grace: float = Field(10.0, ge=0, le=_LONGEST_S, description="seconds a record may be late")
    window_idle: float = Field(
        0.0, ge=0, le=_LONGEST_S, description="seconds of silence that close a partition's windows; 0: off"
    )
    payment_limit: int = Field(10_000_000, ge=1, le=2**63 - 1, description="largest payment, in minor units")
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
            f"{settings.session_timeout:g}: a dead worker's transaction would outlive its membership. Lower it, or "
            f"raise {PREFIX}SESSION_TIMEOUT to as much."
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
    return [
        *problems,
        *setting_files.bad_certificates(PREFIX, settings.ssl_cafile, settings.ssl_certfile, settings.ssl_keyfile),
    ]


def is_loopback(host: str) -> bool:
    """Whether an address or name is this machine's own, so that nobody else reaches it."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def load(**overrides: Any) -> Settings:
    """The settings in force. Raises `ConfigurationError` with every problem, none of which shows a secret."""
    found, problems = setting_files.read_env_file(ENV_FILE, PREFIX)
    problems += _unknown_names(os.environ, "")
    problems += _unknown_names(found or {}, f"In {ENV_FILE}: ")
    try:
        given = {name: value for name, value in overrides.items() if value is not None}
        settings = Settings(**given) if found is not None else Settings(_env_file=None, **given)
    except ValidationError as exc:
        raise ConfigurationError(*problems, *(_explained(error) for error in exc.errors())) from None
    if problems:
        raise ConfigurationError(*problems)
    return settings


#: Read before there are settings, by `native.py`.
_NO_SETTING = f"{PREFIX}PURE"


def _unknown_names(given: Iterable[str], where: str) -> list[str]:
    known = [_NO_SETTING, *(PREFIX + name.upper() for name in Settings.model_fields)]
    problems = []
    for name in sorted(given):
        is_ours = name.upper().startswith(PREFIX)
        near = difflib.get_close_matches(name.upper(), known, 1, 0.6 if is_ours else _ALIKE)
        if name.upper() not in known and (is_ours or near):
            problems.append(f"{where}{name} is not a setting{f'; did you mean {near[0]}?' if near else '.'}")
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
