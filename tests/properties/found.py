"""What a state machine says when a mechanism is off."""

from collections.abc import Callable

from hypothesis.errors import FlakyStrategyDefinition

TRIES = 5


def found_by(play: Callable[[], None]) -> str:
    """Return the words of the failure that *play* ends with; none, if it ends without one.

    A failing schedule is played once more for its report. Threads may take another turn then, with other choices to
    make: nothing can be said of it, and another schedule is looked for.
    """
    for _ in range(TRIES):
        try:
            play()
        except FlakyStrategyDefinition:
            continue
        except (AssertionError, ExceptionGroup) as error:
            return _words(error)
        return ""
    raise AssertionError(f"no schedule could be played twice in {TRIES} tries")


def _words(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return " ".join(_words(inner) for inner in error.exceptions)
    return str(error)
