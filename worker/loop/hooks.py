"""Functions of the user's around a run and its tool calls.

They are called where a result is decided: before the first model call, before the answer is written, around a tool. A
run that is taken over calls them again where nothing was written yet.
"""

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from worker.aio import on_thread
from worker.domain import Draft, Role
from worker.loop.conversation import Conversation
from worker.loop.definition import Hook
from worker.loop.run_context import RunContext, select, underlying
from worker.loop.user_function import call
from worker.loop.user_loop import finished

_OF_RUN = ("run_context", "session_state", "dependencies", "metadata", "user_id", "session_id")
# What hooks of each kind can name.
NAMES = {
    "pre_hooks": ("input", "run_input", *_OF_RUN),
    "post_hooks": ("output", "run_output", *_OF_RUN),
    "tool_hooks": (
        *("name", "function_name", "arguments", "call_next", "function_call", "function", "func"),
        *("run_context", "session_state"),
    ),
}


@dataclass(frozen=True, slots=True)
class RunInput:
    """What a pre-hook is shown: the input of the run or, for a member, its task."""

    input_content: str


@dataclass(slots=True)
class RunAnswer:
    """What a post-hook is shown. A hook can set `content`: that text is written as the answer."""

    content: str


def check_input(conversation: Conversation) -> None:
    """Call the pre-hooks, unless the model has replied already.

    Raises:
        InputRefused: a hook refused it.
        HookFailed, Stopped
    """
    hooks = conversation.definition.hooks.pre
    if not hooks or any(message.role is Role.ASSISTANT for message in conversation.log):
        return
    text = conversation.log[0].content
    context = conversation.context(key=f"{conversation.run_id}:input")
    available = {"input": text, "run_input": RunInput(text), **_about(context)}
    for hook in hooks:
        call(hook, available, conversation=conversation)


def check_answer(conversation: Conversation, draft: Draft) -> Draft:
    """Call the post-hooks on the answer, and return it as they leave it. A hook that returns a text replaces it.

    Raises:
        OutputRefused: a hook refused it.
        HookFailed, Stopped
    """
    hooks = conversation.definition.hooks.post
    if not hooks:
        return draft
    answer = RunAnswer(draft.content)
    context = conversation.context(key=f"{conversation.run_id}:output")
    for hook in hooks:
        available = {"output": answer.content, "run_output": answer, **_about(context)}
        result = call(hook, available, conversation=conversation)
        if isinstance(result, str):
            answer.content = result
    return replace(draft, content=answer.content)


def _about(context: RunContext) -> dict[str, Any]:
    return {
        "run_context": context,
        "session_state": context.session_state,
        "dependencies": context.dependencies,
        "metadata": context.metadata,
        "user_id": context.user_id,
        "session_id": context.session_id,
    }


def wrapped(
    function: Callable[..., Any], name: str, hooks: Sequence[Hook], context: RunContext, wait: Callable[[Any], Any]
) -> Callable[..., Any]:
    """Return *function*, the tool *name*, inside its hooks, the first one outermost.

    A hook gets the tool's name, its arguments, and a function that makes the call. What it returns is the result.
    """
    for hook in reversed(hooks):
        function = partial(_through, hook, function, name, context, wait)
    return function


def _through(
    hook: Hook,
    function: Callable[..., Any],
    name: str,
    context: RunContext,
    wait: Callable[[Any], Any],
    /,
    **arguments: Any,
) -> Any:
    def call_next(**changed: Any) -> Any:
        result = function(**changed)
        return wait(finished(result)) if inspect.isawaitable(result) else result

    async def await_next(**changed: Any) -> Any:
        # On a thread of its own: the threads of a pool could all hold hooks that wait for this one.
        result = await on_thread(partial(function, **changed), name=f"tool {name}")
        return await result if isinstance(result, Awaitable) else result

    following = await_next if inspect.iscoroutinefunction(underlying(hook)) else call_next
    available: Mapping[str, Any] = {
        "name": name,
        "function_name": name,
        "arguments": arguments,
        "call_next": following,
        "function_call": following,
        "function": following,
        "func": following,
        "run_context": context,
        "session_state": context.session_state,
    }
    return hook(**select(hook, available))
