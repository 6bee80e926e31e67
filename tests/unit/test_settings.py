"""What is read from the environment, with its defaults and its mistakes."""

from pathlib import Path

import pytest
from sqlalchemy import make_url

from worker.environment import own_names
from worker.errors import SettingsInvalid
from worker.settings import load, unknown_names


def test_without_any_setting_the_defaults_carry_a_laptop():
    """The defaults are those that the contract names."""
    settings = load()

    assert settings.lease_seconds == 15
    assert settings.model == "gpt-5-mini"
    assert settings.max_turns == 20
    assert settings.model_silence_seconds == 60
    assert settings.max_input_bytes == 1024 * 1024
    assert settings.database == f"sqlite:///{Path('.team-sessions').absolute()}/team-sessions.db"
    assert (settings.teams, settings.queue("runs")) == (None, "runs")
    with pytest.raises(SettingsInvalid, match="TEAM_SESSIONS_REDIS_URL is not set"):
        _ = settings.broker


def test_every_mistake_is_named_at_once_and_no_value_is_shown(monkeypatch):
    """One start shows all that is wrong; a value may be a secret."""
    wrong = {
        "TEAM_SESSIONS_DATABASE_URL": "mysql://u:hunter2@h/d",
        "TEAM_SESSIONS_REDIS_URL": "amqp://u:hunter2@h",
        "TEAM_SESSIONS_MAX_TURNS": "hunter2",
        "TEAM_SESSIONS_LEASE_SECONDS": "0",
        "TEAM_SESSIONS_LOG_STYLE": "hunter2",
        "TEAM_SESSIONS_QUEUE_PREFIX": "hunter2 !",
    }
    for name, value in wrong.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(SettingsInvalid, match=r"6 setting\(s\)") as raised:
        load()

    assert [name for name in wrong if f"\n  {name}: " not in raised.value.message] == []
    assert "hunter2" not in raised.value.message
    assert raised.value.__cause__ is None


def test_addresses_are_found_under_both_names_and_an_empty_variable_is_unset(monkeypatch):
    """Our name goes before the common one, `postgres://` is understood, and secrets do not show."""
    monkeypatch.setenv("TEAM_SESSIONS_MODEL", "")
    monkeypatch.setenv("TEAM_SESSIONS_DATABASE_URL", "")
    monkeypatch.setenv("DATABASE_URL", "postgres://u:hunter2@h/d")
    monkeypatch.setenv("REDIS_URL", "redis://:hunter2@common")
    monkeypatch.setenv("TEAM_SESSIONS_REDIS_URL", "rediss://:hunter2@ours")
    monkeypatch.setenv("TEAM_SESSIONS_QUEUE_PREFIX", "eu.")

    settings = load()

    assert settings.model == "gpt-5-mini"
    assert settings.database == "postgres://u:hunter2@h/d"
    assert settings.broker == "rediss://:hunter2@ours"
    assert settings.queue("runs") == "eu.runs"
    assert "hunter2" not in repr(settings)


def test_blanks_and_line_ends_around_a_value_are_not_part_of_it(monkeypatch, tmp_path):
    """Neither in a variable nor in a file; but the name of a directory may end with one."""
    (tmp_path / "openai_api_key").write_text("from-a-file \r\n\n")
    monkeypatch.setenv("TEAM_SESSIONS_SECRETS_DIR", str(tmp_path))
    monkeypatch.setenv("TEAM_SESSIONS_REDIS_URL", " redis://h\t\n")
    monkeypatch.setenv("TEAM_SESSIONS_MODEL", "\n")
    monkeypatch.setenv("TEAM_SESSIONS_DATA_DIR", "odd ?\n")

    settings = load()

    assert (settings.broker, settings.model) == ("redis://h", "gpt-5-mini")
    assert settings.openai_api_key.get_secret_value() == "from-a-file"
    assert settings.data_dir == Path("odd ?\n")
    assert make_url(settings.database).database == str(settings.data_dir.absolute() / "team-sessions.db")


SERVICE = {
    "SERVICE_HOST": "10.0.0.5",
    "SERVICE_PORT": "80",
    "SERVICE_PORT_HTTP_METRICS": "80",
    "PORT": "tcp://10.0.0.5:80",
    "PORT_80_TCP": "tcp://10.0.0.5:80",
    "PORT_80_TCP_PROTO": "tcp",
    "PORT_80_TCP_PORT": "80",
    "PORT_53_UDP_ADDR": "10.0.0.5",
}


@pytest.mark.parametrize("service", ["TEAM_SESSIONS", "TEAM_SESSIONS_METRICS", "TEAM_SESSIONS_TEAMS"])
def test_what_kubernetes_says_of_a_service_is_no_setting(monkeypatch, service):
    """A Service whose name begins like our settings, in the same namespace."""
    variables = {f"{service}_{name}": value for name, value in SERVICE.items()}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert load().metrics_port is None
    assert unknown_names(variables) == own_names(variables) == []
    assert unknown_names({"TEAM_SESSIONS_PORT": "80"}) != []


@pytest.mark.parametrize("url", ["collector:4317", "http://", "http://h:x", "grpc://h"])
def test_a_collector_that_a_platform_names_for_everybody_ends_nothing(monkeypatch, url):
    """If it cannot be used, it is left out; ours is refused."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
    assert load().collector is None
    assert load().ignored_collector == "it is no address of an HTTP server"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://h:4318")
    assert (load().collector, load().ignored_collector) == ("http://h:4318", None)

    monkeypatch.setenv("TEAM_SESSIONS_OTLP_ENDPOINT", "collector:4317")
    with pytest.raises(SettingsInvalid, match="TEAM_SESSIONS_OTLP_ENDPOINT"):
        load()


def test_secrets_are_read_from_files_where_the_environment_leaves_them_open(monkeypatch, tmp_path):
    """A container is given them so; an empty file says as little as an empty variable."""
    files = {"team_sessions_redis_url": "redis://:hunter2@files\n", "REDIS_URL": "redis://other", "openai_api_key": ""}
    for name, text in {**files, "team_sessions_model": "from-a-file"}.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setenv("TEAM_SESSIONS_SECRETS_DIR", str(tmp_path))
    monkeypatch.setenv("TEAM_SESSIONS_MODEL", "from-the-environment")

    settings = load()

    assert settings.broker == "redis://:hunter2@files"
    assert settings.openai_api_key is None
    assert settings.model == "from-the-environment"


@pytest.mark.parametrize("broken", ["no directory", "no text"])
def test_secrets_that_cannot_be_read_are_a_mistake_like_any_other(monkeypatch, tmp_path, broken):
    """It is named, and nothing that stands in a file is shown."""
    (tmp_path / "openai_api_key").write_bytes(b"hunter2\xff")
    monkeypatch.setenv("TEAM_SESSIONS_SECRETS_DIR", str(tmp_path if broken == "no text" else tmp_path / "none"))

    with pytest.raises(SettingsInvalid) as raised:
        load()

    assert "TEAM_SESSIONS_SECRETS_DIR: " in raised.value.message
    assert "hunter2" not in raised.value.message


def test_a_name_that_is_no_setting_is_answered_with_the_nearest():
    """A slip of the pen is pointed out; names of our settings, of the client and of others are not."""
    known = dict.fromkeys(
        ["TEAM_SESSIONS_LEASE_SECONDS", "TEAM_SESSIONS_URL", "TEAM_SESSIONS_DATABASE_URL", "PATH"], ""
    )
    slips = dict.fromkeys(["TEAM_SESSIONS_LEASE_SECOND", "TEAM_SESSIONS_OPENAI_API_KEY", "TEAM_SESSIONS_QQQQQQQQQ"], "")

    assert unknown_names(known | slips) == [
        "TEAM_SESSIONS_LEASE_SECOND is not a setting. Did you mean TEAM_SESSIONS_LEASE_SECONDS?",
        "TEAM_SESSIONS_OPENAI_API_KEY is not a setting. Did you mean OPENAI_API_KEY?",
        "TEAM_SESSIONS_QQQQQQQQQ is not a setting.",
    ]
