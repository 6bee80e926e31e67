"""The list of outages, and what several of them need."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Literal

from ops.chaos.system import Fleet, Needs

Part = Literal["postgres", "sqlite", "broker", "model"]
AGAIN_S = 1.0  # between two blows of an outage that has several
NOTHING, PORT = Needs(), Needs(port=True)


@dataclass(frozen=True, slots=True)
class Outage:
    """`part`: what is away; the outages of broker and model are played on each database."""

    name: str
    part: Part
    needs: Needs
    hold: Callable[[Fleet], Iterator[None]]

    @property
    def about(self) -> str:
        """What it does."""
        return (self.hold.__doc__ or "").splitlines()[0]

    def fits(self, kind: str) -> bool:
        """Tell whether it can be played on a database of *kind*."""
        return self.part in {kind, "broker", "model"}


OUTAGES: dict[str, Outage] = {}
Hold = Callable[[Fleet], Iterator[None]]


def outage(part: Part, needs: Needs = NOTHING) -> Callable[[Hold], Hold]:
    """Add a generator to the registry."""

    def add(hold: Hold) -> Hold:
        OUTAGES[hold.__name__] = Outage(hold.__name__, part, needs, hold)
        return hold

    return add


@contextmanager
def repeated(blow: Callable[[], object]) -> Iterator[None]:
    """Call *blow* at once and each second, until the end of the block."""
    ending = threading.Event()

    def strike() -> None:
        while True:
            blow()
            if ending.wait(AGAIN_S):
                return

    thread = threading.Thread(target=strike, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join()


@contextmanager
def full_disk(fleet: Fleet) -> Iterator[None]:
    """Fill the disk of the database, and keep it full, with a file that is removed at the end of the block."""
    ballast = fleet.directory / "store" / "ballast"

    def fill() -> None:
        with suppress(OSError), ballast.open("ab", buffering=0) as file:
            while True:
                file.write(bytes(4096))

    with ExitStack() as stack:
        stack.callback(ballast.unlink, missing_ok=True)
        stack.enter_context(repeated(fill))
        yield
