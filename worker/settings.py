"""The settings, with defaults for a laptop.

`load()` reads them from the environment once, at start, and names every mistake at once. No other module reads the
environment.
"""

import difflib
import os
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    AliasChoices,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.types import DirectoryPath, FilePath
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from worker.addresses import broker as broker_address
from worker.addresses import database as database_address
from worker.environment import PREFIX, can_trace, is_http, is_of_kubernetes, own_names
from worker.errors import SettingsInvalid

PATHS = ("data_dir", "secrets_dir", "prices", "ca_file")  # their names may end with a blank


class Settings(BaseSettings):
    """The settings of one process. Durations are in seconds, sizes in bytes."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="ignore")

    data_dir: Path = Field(
        Path(".team-sessions"), description="Directory of the embedded database, the first key and Flower's login."
    )
    secrets_dir: DirectoryPath | None = Field(
        None,
        description="Directory with one file per setting, named like it in upper or lower case, with its value: "
        "the way containers get secrets. The environment takes precedence.",
    )
    database_url: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices(PREFIX + "DATABASE_URL", "DATABASE_URL"),
        description="postgresql://… (through PgBouncer: …?pooler=transaction) or sqlite:///FILE. Default: SQLite in "
        "the data directory.",
    )
    redis_url: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices(PREFIX + "REDIS_URL", "REDIS_URL"),
        description="redis://[[USER]:PASSWORD@]HOST[:PORT][/NUMBER], or rediss://… with TLS (a private authority: "
        "…?ssl_ca_certs=FILE). If it is not set, `up` starts its own Valkey.",
    )
    openai_api_key: SecretStr | None = Field(
        None, validation_alias="OPENAI_API_KEY", description="Key of the model provider."
    )
    openai_base_url: str | None = Field(
        None,
        validation_alias="OPENAI_BASE_URL",
        pattern="^https?://",
        description="Address of an OpenAI-compatible server.",
    )
    model_proxy: SecretStr | None = Field(
        None,
        description="Proxy for model servers on other machines: http://[USER:PASSWORD@]HOST:PORT. HTTPS_PROXY and the "
        "like have no effect. Default: none.",
    )
    ca_file: FilePath | None = Field(
        None,
        description="PEM file with the certificate authorities of model servers, of the collector and, for clients, of "
        "the API. Default: those of the system.",
    )
    teams: str | None = Field(
        None, description="Module whose `Team` objects are served. Default: one plain team named 'team'."
    )
    model: str = Field("gpt-5-mini", min_length=1, description="Model of teams that name none.")
    queue_prefix: str = Field(
        "",
        pattern=r"^[A-Za-z0-9_.-]*$",
        description="Prefix of every key and channel in Redis, for a separate set of workers.",
    )
    lease_seconds: float = Field(
        15.0, ge=1, le=3600, description="Time after which another worker may take over the runs of a silent worker."
    )
    handover_seconds: float = Field(
        10.0, ge=0, le=3600, description="After SIGTERM, model calls may take this long before they are ended."
    )
    model_silence_seconds: float = Field(
        60.0,
        gt=0,
        le=3600,
        description="A model call that receives nothing for this long has failed; each retry waits twice as long.",
    )
    pending_seconds: float = Field(
        604_800.0,
        gt=0,
        description="A call that waits for a decision expires after this long, if its tool does not say. A week.",
    )
    model_retries: int = Field(8, ge=0, le=100, description="Retries of a model call in a row before its run fails.")
    model_calls_in_flight: int = Field(
        0, ge=0, description="Calls to one model at the same time, by all workers together. 0: no limit."
    )
    max_turns: int = Field(20, ge=1, description="Model replies in one run, unless the team sets a limit.")
    max_tool_calls: int = Field(100, ge=0, description="Tool calls in one run, unless the team sets a limit.")
    max_run_seconds: float = Field(3600.0, gt=0, description="Time of one run from its start, unless the team sets it.")
    context_tokens: int = Field(
        32_000,
        ge=1,
        description="Tokens of the summary, the history and the run in one model call, unless the team sets it.",
    )
    summary_due_messages: int = Field(
        40, ge=1, description="A summary is due when this many messages follow it, unless the team sets it."
    )
    summary_due_tokens: int = Field(
        8_000, ge=1, description="A summary is due when about this many tokens follow it, unless the team sets it."
    )
    summary_piece_tokens: int = Field(
        12_000, ge=100, description="Tokens of history, about, in one model call that makes a summary."
    )
    summary_slots: int = Field(
        8, ge=1, description="Summaries at the same time in each worker that consumes the queue `summaries`."
    )
    summary_versions: int = Field(
        20, ge=1, description="Versions of a session's summary that are kept, unless the team sets it."
    )
    max_input_bytes: int = Field(1_048_576, ge=1, description="Largest size of one input, in UTF-8.")
    max_queued_per_session: int = Field(
        10_000, ge=1, description="Queued runs of one session; more are refused with 429."
    )
    max_queued_per_user: int = Field(10_000, ge=1, description="Queued runs of one user; more are refused with 429.")
    max_queued: int = Field(1_000_000, ge=1, description="Queued runs in all; more are refused with 429.")
    requests_per_minute: int | None = Field(
        None, ge=1, description="Requests of one key in each API process; more are refused with 429. Default: no limit."
    )
    max_streams: int | None = Field(
        None, ge=1, description="Open streams in each API process; more are refused with 503. Default: by open files."
    )
    max_streams_per_key: int | None = Field(None, ge=1, description="Those of one key: 429. Default: half of them.")
    batch_slots: int = Field(
        16, ge=1, description="Background runs at the same time in each worker that consumes the queue `batch`."
    )
    prices: Path | None = Field(
        None,
        description="JSON file with the price of a million tokens, by team or for `*`: "
        '`{"*": {"input": 0.25, "cached_input": 0.025, "output": 2}}`. The cost of batches is computed from it.',
    )
    stream_seconds: int = Field(
        3600, ge=10, description="Lifetime of a run's stream after its last event, unless the team sets it."
    )
    keep_sessions_days: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="Sessions are removed this many days after their last activity, unless the team sets it. "
        "Default: never.",
    )
    keep_runs_days: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="Runs are removed this many days after their end, unless the team sets it. Default: with their "
        "session.",
    )
    metrics_port: int | None = Field(
        None, ge=1, le=65535, description="Port on which a worker answers `GET /metrics`. Default: none."
    )
    metrics_host: str = Field("127.0.0.1", min_length=1, description="Address of that port.")
    log_style: Literal["auto", "json", "readable"] = Field(
        "auto", description="'auto': readable on a terminal, else JSON."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Lowest level that is logged.")
    log_libraries: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "WARNING",
        description="Lowest level that is logged of installed libraries. Only for debugging: INFO and DEBUG log their "
        "lines unchanged, with URLs, message text and secrets.",
    )
    otlp_endpoint: str | None = Field(
        None,
        pattern="^https?://",
        description="Collector of traces (OTLP/HTTP): http://HOST:4318. Needs `team-sessions[otel]`.",
    )
    standard_otlp_endpoint: str | None = Field(
        None,
        validation_alias="OTEL_EXPORTER_OTLP_ENDPOINT",
        description="Collector if TEAM_SESSIONS_OTLP_ENDPOINT is not set. It is ignored, with a warning, if it is no "
        "address of an HTTP server or `team-sessions[otel]` is not installed.",
    )

    @model_validator(mode="before")
    @classmethod
    def _clean(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Leave out what is empty, also in secret files, and line ends and blanks around values."""
        values = {n: v.strip() if isinstance(v, str) and n not in PATHS else v for n, v in values.items()}
        return {n: v for n, v in values.items() if v != "" and not is_of_kubernetes(n.upper(), v)}

    @field_validator("database_url", "redis_url")
    @classmethod
    def _validate_address(cls, url: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if url is None:
            return None
        parse: Callable[[str], object] = (
            database_address.parse if info.field_name == "database_url" else broker_address.parse
        )
        parse(url.get_secret_value())
        return SecretStr(url.get_secret_value().strip())

    @field_validator("model_proxy")
    @classmethod
    def _validate_proxy(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None and not is_http(url.get_secret_value()):
            raise ValueError("expected http://[USER:PASSWORD@]HOST:PORT or https://…")
        return url

    @field_validator("ca_file")
    @classmethod
    def _validate_authorities(cls, path: Path | None) -> Path | None:
        try:
            if path is not None:
                ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
        except OSError:  # an SSLError is one
            raise ValueError("it holds no certificates in PEM format, or cannot be read") from None
        return path

    @field_validator("otlp_endpoint")
    @classmethod
    def _validate_tracing(cls, endpoint: str | None) -> str | None:
        if endpoint is not None and not can_trace():
            raise ValueError("the packages for traces are missing; install team-sessions[otel], or unset it")
        return endpoint

    @property
    def database(self) -> str:
        """The address of the database. It contains a secret."""
        if self.database_url is None:
            return database_address.sqlite_url(self.data_dir.absolute() / "team-sessions.db")
        return self.database_url.get_secret_value()

    @property
    def broker(self) -> str:
        """The address of the broker. It contains a secret.

        Raises:
            SettingsInvalid: it is not set.
        """
        if self.redis_url is None:
            raise _invalid([f"{PREFIX}REDIS_URL is not set. Set it, or let 'team-sessions up' start a broker."])
        return self.redis_url.get_secret_value()

    @property
    def collector(self) -> str | None:
        """The address of the collector of traces; None: there is none."""
        return self.otlp_endpoint or (None if self.ignored_collector else self.standard_otlp_endpoint)

    @property
    def ignored_collector(self) -> str | None:
        """Why the standard variable of OpenTelemetry, which a platform may set for every process, is ignored."""
        if self.otlp_endpoint is not None or self.standard_otlp_endpoint is None:
            return None
        if not is_http(self.standard_otlp_endpoint):
            return "it is no address of an HTTP server"
        return None if can_trace() else "team-sessions[otel] is not installed"

    def queue(self, name: str) -> str:
        """Return the key of queue *name* in Redis."""
        return self.queue_prefix + name


def load() -> Settings:
    """Read the settings from the environment.

    Raises:
        SettingsInvalid: with one line for each mistake, without values (they may be secrets).
    """
    try:
        return Settings(_secrets_dir=_secrets_dir())
    except SettingsError as error:
        raise _invalid([_unreadable(error)]) from None
    except ValidationError as error:
        raise _invalid(list(_mistakes(error).values())) from None


def load_readable() -> tuple[Settings, dict[str, str]]:
    """Return the settings with defaults for those that cannot be read, and the mistake of each of these by name."""
    directory = _secrets_dir()
    mistakes: dict[str, str] = {}
    try:
        return Settings(_secrets_dir=directory), {}
    except SettingsError as error:
        directory, mistakes = None, {PREFIX + "SECRETS_DIR": _unreadable(error)}
    except ValidationError as error:
        mistakes = _mistakes(error)
    defaults: dict[str, Any] = {}
    for name, setting in Settings.model_fields.items():
        names = _names(name)
        if not mistakes.keys().isdisjoint(names):
            defaults[names[0] if setting.validation_alias else name] = setting.default
    return Settings(_secrets_dir=directory, **defaults), mistakes


def unknown_names(environment: Mapping[str, str]) -> list[str]:
    """Return one sentence for each TEAM_SESSIONS_* name that is not a setting: most likely a typing error."""
    names = {"URL": PREFIX + "URL", "KEY": PREFIX + "KEY"}  # read by the client
    for name, setting in Settings.model_fields.items():
        alias = setting.validation_alias
        names[name.upper()] = alias if isinstance(alias, str) else PREFIX + name.upper()
    unknown = [n for n in own_names(environment) if n not in names.values()]
    # Compared without the prefix, which would make any two names similar.
    near = {n: difflib.get_close_matches(n.removeprefix(PREFIX), names, 1) for n in unknown}
    return [f"{n} is not a setting." + "".join(f" Did you mean {names[m]}?" for m in near[n]) for n in unknown]


def _secrets_dir() -> Path | None:
    directory = Path(os.environ.get(PREFIX + "SECRETS_DIR") or os.devnull)
    return directory if directory.is_dir() else None


def _unreadable(error: SettingsError) -> str:
    """Return one line about a file of secrets that cannot be read, without its content."""
    cause = error.__cause__
    which = f"{Path(cause.filename).name!r}" if isinstance(cause, OSError) and cause.filename else "a file"
    return f"{PREFIX}SECRETS_DIR: {which} cannot be read ({type(cause).__name__})"


def _names(field: str) -> list[str]:
    """Return the environment variables of a setting, in order of precedence."""
    alias = Settings.model_fields[field].validation_alias
    if isinstance(alias, AliasChoices):
        return [str(choice) for choice in alias.choices]
    return [alias] if isinstance(alias, str) else [PREFIX + field.upper()]


def _mistakes(error: ValidationError) -> dict[str, str]:
    """Return one line for each setting that is wrong, without its value, which may be a secret."""
    return {_name(e["loc"]): f"{_name(e['loc'])}: {e['msg']}" for e in error.errors(include_input=False)}


def _name(location: tuple[int | str, ...]) -> str:
    name = str(location[0])
    return name if name.isupper() else PREFIX + name.upper()


def _invalid(mistakes: list[str]) -> SettingsInvalid:
    return SettingsInvalid(count=len(mistakes), mistakes="".join(f"\n  {m}" for m in mistakes))
