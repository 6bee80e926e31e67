"""Numbers, hosts and ports that cannot be are refused in a sentence that names the option, before anything starts."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from worker.cli import listening
from worker.cli.main import COMMANDS, cli
from worker.cli.up import up
from worker.errors import HostUnusable, PortTaken
from worker.queue.embedded import free_port

WORDS = ["", "x", "nan", "inf", "-inf", "1e400", "0x10", "½", "-1", "9" * 40]


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield every command with the words that call it."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


NUMBERS = [
    (path, option)
    for path, command in commands(cli)
    for option in command.params
    if isinstance(option, click.Option)
    and isinstance(option.type, (click.types.IntParamType, click.types.FloatParamType))
]


@pytest.mark.parametrize(
    ("path", "option"), NUMBERS, ids=lambda each: " ".join(each) if isinstance(each, tuple) else each.name
)
def test_what_is_no_number_in_its_range_is_refused(path: tuple[str, ...], option: Any) -> None:
    """For every option that takes a number; each has a range with two ends, or excludes infinity."""
    assert len(COMMANDS) == len({path[0] for path, _ in commands(cli)})
    for word in WORDS:
        done = CliRunner().invoke(cli, [*path, f"{option.opts[0]}={word}"])
        assert done.exit_code == 2, (word, done.output)
        assert option.opts[0] in done.output
        assert "Traceback" not in done.output


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--port=9001", "--flower-port=9001"], "--flower-port"),
        (["--metrics-port=65534"], "65534 to 65536"),
        (["--metrics-port=8000"], "8000 to 8002"),
        (["--port=9002", "--metrics-port=9000"], "9000 to 9002"),
    ],
)
def test_ports_that_collide_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], named: str
) -> None:
    """Two servers would need one port, or one a port that there is not."""
    monkeypatch.setenv("TEAM_SESSIONS_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr(listening, "check", lambda *_, **__: None)  # whether the others are free is another matter

    done = CliRunner().invoke(up, options)

    assert done.exit_code == 2
    assert named in done.output


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("no-such-host.invalid", ""),
        ("192.0.2.1", "Cannot assign requested address"),
        ("", "it is empty"),
        ("a..b", ""),
        ("é" * 70, ""),
        ("1.2.3.4.5", ""),
    ],
)
def test_a_host_that_is_none_of_this_machine_is_named(host: str, reason: str) -> None:
    """With the option to change."""
    with pytest.raises(HostUnusable) as refused:
        listening.check(host, free_port(), option="--port")

    assert f"No server can listen at host {host!r} ({reason}" in refused.value.message
    assert "--host" in refused.value.message


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0"])
def test_a_port_in_use_is_named_with_its_option(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On any address of the host."""
    monkeypatch.setattr(listening, "WAIT_S", 0.0)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(PortTaken, match=f"Port {port} of {host} cannot be used .*change --flower-port"):
            listening.check(host, port, option="--flower-port")
    listening.check(host, port, option="--flower-port")


def test_ipv6_does_not_take_the_ports_of_ipv4() -> None:
    """Servers listen there for IPv6 alone."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        listening.check("::1", other.getsockname()[1], option="--port")
        listening.check("::", other.getsockname()[1], option="--port")
