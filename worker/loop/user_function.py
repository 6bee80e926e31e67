"""Call a function of the user's that is no tool: instructions, a hook.

It is called on the run's thread, so a stop of the run waits for it. An async function runs where async tools do.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from worker.errors import HookFailed, InputRefused, OutputRefused
from worker.loop.conversation import Conversation
from worker.loop.run_context import name_of, select
from worker.loop.user_loop import finished
from worker.observe import logs

log = logs.get(__name__)


def call(function: Callable[..., Any], available: Mapping[str, Any], *, conversation: Conversation) -> Any:
    """Return what *function* returns, called with what its parameters name of *available*.

    Raises:
        HookFailed: it raised an error of its own, or names what is not available.
        InputRefused, OutputRefused, Stopped
    """
    name = name_of(function)
    try:
        result = function(**select(function, available))
        if inspect.isawaitable(result):
            return conversation.coroutines.run(finished(result), name=name, stop=conversation.stop)
    except (InputRefused, OutputRefused):
        raise
    except Exception as error:
        conversation.stop.check()
        log.error("a function of the team failed", function=name, error=error)
        raise HookFailed(function=name, problem=problem_of(error)) from error
    return result


def problem_of(error: BaseException) -> str:
    """Return the type of an error and where it was raised, without its words: they can hold message text."""
    at = logs.position_of_user(error)
    return f"{type(error).__name__}{f' at {at}' if at else ''}"
