"""The page of commands: what each of them says to `--help`, from the program itself."""

from collections.abc import Iterator

import click

from worker.cli.main import cli

WIDTH = 100


def page() -> str:
    """Return the help of every command, groups before their commands."""
    text = (
        "# Commands\n\n"
        "What `team-sessions COMMAND --help` says. A command ends with 0 when it did what was asked, 1 when it could "
        "not, 2 when it was not asked in the right way or found something wrong at its start, such as a [setting]"
        "(settings.md), and 3 when a batch waits for your approval.\n\n"
        "`-h` is short for `--help`, for every command. Completion in the shell: `team-sessions --help`.\n"
    )
    return text + "".join(f"\n## {path}\n\n```text\n{text}\n```\n" for path, text in helps())


def helps() -> Iterator[tuple[str, str]]:
    """Yield each command as it is typed, and its help."""
    yield from _below(
        cli,
        click.Context(
            cli, info_name="team-sessions", max_content_width=WIDTH, terminal_width=WIDTH, **cli.context_settings
        ),
    )


def _below(command: click.Command, context: click.Context) -> Iterator[tuple[str, str]]:
    yield context.command_path, command.get_help(context)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            yield from _below(child, click.Context(child, info_name=name, parent=context, terminal_width=WIDTH))
