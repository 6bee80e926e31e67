"""How experiments with a product are made: in the product's own environment, with nothing but it and this file.

The answers are those of ops/stub_model.py; marks such as [echo] in an input tell it what to do.
"""

import json
import re
import sys
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

TOGETHER_S = 1.0  # how long a tool waits for another to run beside it; only where none does is it waited out


class Product:
    """The names of one product, as attributes, and a way to make a team on a database of its own."""

    def __init__(self, names: tuple[Any, ...], directory: Path) -> None:
        self._names = {name.__name__: name for name in names}
        self._directory = directory
        self._made = 0

    def __getattr__(self, name: str) -> Any:
        if name not in self._names:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return self._names[name]

    def team(self, **options: Any) -> Any:
        """Return a team on a new SQLite file, with *options*; without others, with a model and no members."""
        self._made += 1
        db = self.SqliteDb(db_file=str(self._directory / f"{self._made}.db"))
        return self.Team(**{"id": "t", "model": self.OpenAIChat(id="m"), "members": [], "db": db, **options})

    def member(self, id: str, *, model: str = "m", **options: Any) -> Any:
        """Return an agent with a model of this name."""
        return self.Agent(id=id, name=id, role=f"does {id}", model=self.OpenAIChat(id=model), **options)


class Experiments(dict[str, Callable[[Product], str]]):
    """Experiments under the names that they are about; `@experiments(name)` adds one."""

    def __call__(self, name: str) -> Callable[[Callable[[Product], str]], None]:
        """Add the function below under a name."""
        return partial(self.__setitem__, name)

    def carry_out(self, *names: Any) -> None:
        """Carry them out with a product's names, and print the facts: {name: fact} as JSON, in the last line."""
        with tempfile.TemporaryDirectory(prefix="ts-names-", ignore_cleanup_errors=True) as directory:
            product = Product(names, Path(directory))
            facts = {name: self._fact(name, product) for name in self}
        print(json.dumps(facts), flush=True)

    def _fact(self, name: str, product: Product) -> str:
        print(name, file=sys.stderr, flush=True)
        try:
            return self[name](product)
        except Exception as error:  # noqa: BLE001 - that a product raises is what was found
            message = str(error).partition("\n")[0]
            if isinstance(error, (AttributeError, TypeError)) and re.findall(r"\w+", name)[-1] in message:
                return "absent"
            return f"raises {type(error).__name__}: {message}"


def sent(output: Any) -> list[dict[str, Any]]:
    """Return the messages that the model was sent in a run that asked for an [echo], without the system's."""
    return [m for m in json.loads(output.content)["messages"] if m["role"] not in ("system", "developer")]


def roles(messages: list[Any]) -> str:
    """Return the roles of messages as a text."""
    return ", ".join(str(m["role"] if isinstance(m, dict) else m.role) for m in messages)


def tried(function: Callable[..., Any], *args: Any, **kwargs: Any) -> str | None:
    """Return the name of the exception that a call raises, or None."""
    try:
        function(*args, **kwargs)
    except Exception as error:  # noqa: BLE001 - as above
        return type(error).__name__
    return None


def at_once(count: int, function: Callable[[int], Any]) -> None:
    """Call a function in *count* threads at once."""
    with ThreadPoolExecutor(count) as pool:
        list(pool.map(function, range(count)))


def meeting() -> tuple[Callable[[], str], threading.Event]:
    """Return a tool that waits for another call of it, and what is set when two were there at the same time."""
    barrier, met = threading.Barrier(2), threading.Event()

    def wait() -> str:
        """Wait for another."""
        try:
            barrier.wait(TOGETHER_S)
        except threading.BrokenBarrierError:
            return "alone"
        met.set()
        return "met"

    return wait, met


def ping(word: str) -> str:
    """Say a word back.

    Args:
        word: any word.
    """
    return word
