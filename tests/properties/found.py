"""What a state machine says when a mechanism is off."""

from collections.abc import Callable


def found_by(play: Callable[[], None]) -> str:
    """Return the words of the failure that *play* ends with; none, if it ends without one."""
    try:
        play()
    except (AssertionError, ExceptionGroup) as error:  # a group, if the schedule was played again and did not fail
        return _words(error)
    return ""


def _words(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return " ".join(_words(inner) for inner in error.exceptions)
    return str(error)
