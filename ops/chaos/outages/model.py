"""Outages of the model."""

import os
import signal
from collections.abc import Iterator

from ops.chaos.outages.registry import outage
from ops.chaos.system import Fleet, thaw


@outage("model")
def stopped_model(fleet: Fleet) -> Iterator[None]:
    """The server of the model ends: calls break, and new ones are refused."""
    fleet.system.model.kill()
    fleet.system.model.wait()
    yield
    fleet.system.start_model()


@outage("model")
def frozen_model(fleet: Fleet) -> Iterator[None]:
    """The server of the model accepts calls and answers nothing (SIGSTOP)."""
    os.kill(fleet.system.model.pid, signal.SIGSTOP)
    yield
    thaw(fleet.system.model.pid)


def _marks(name: str, marks: str, about: str) -> None:
    def hold(fleet: Fleet) -> Iterator[None]:
        fleet.marks.write_text(marks)
        yield
        fleet.marks.unlink()

    hold.__name__, hold.__doc__ = name, about
    outage("model")(hold)


_marks("model_answers_500", "[fail=500]", "Each call of the model is answered with 500.")
_marks("model_answers_429", "[fail=429] [retry-after=1]", "Each call is answered with 429 and `Retry-After: 1`.")
_marks("model_answers_a_page", "[page]", "Each call is answered with a page for people, and status 200.")
_marks("model_answers_garbage", "[garbage]", "Each answer has status 200, and parts that are no JSON.")
