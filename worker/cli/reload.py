"""`up --reload`: a change in the code of the teams restarts the workers.

The changed module is imported in a process of its own first. With a mistake in it, which is printed, the workers go on
as they are. A worker that is restarted hands its runs over: they continue with the new code after their last message.
"""

import subprocess
import threading
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import click
import watchfiles

from worker.cli.supervise import Child


class Reload:
    """Watches the directory of the teams' module, with all below it, on a thread of its own until `close`."""

    def __init__(self, module: str, workers: Sequence[Child], *, check: Sequence[str]) -> None:
        """*check* is a command that imports the module, and prints what is wrong with it."""
        self._directory = _directory_of(module)
        self._workers = workers
        self._check = check
        self._closed = threading.Event()

    def start(self) -> None:
        """Begin to watch."""
        threading.Thread(target=self._watch, name="reload", daemon=True).start()
        click.echo(f"Watching {self._directory} for changes of the teams.")

    def close(self) -> None:
        """Stop watching."""
        self._closed.set()

    def _watch(self) -> None:
        changes = watchfiles.watch(
            self._directory, watch_filter=watchfiles.PythonFilter(), stop_event=self._closed, raise_interrupt=False
        )
        for changed in changes:
            names = ", ".join(sorted({Path(path).name for _, path in changed}))
            checked = subprocess.run(list(self._check), capture_output=True, text=True, errors="replace", check=False)  # noqa: S603 - a command of this package
            if checked.returncode:
                click.echo(f"{names} changed. The workers are not restarted: {checked.stderr.strip()}", err=True)
                continue
            click.echo(f"{names} changed: the workers are restarted.")
            for worker in self._workers:
                worker.end()  # the supervisor starts it again


def _directory_of(module: str) -> Path:
    spec = find_spec(module.partition(".")[0])
    assert spec is not None  # the teams are loaded
    assert spec.origin is not None
    return Path(spec.origin).parent
