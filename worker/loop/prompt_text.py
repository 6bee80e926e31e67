"""The texts of a definition as they are in one run.

A function as `instructions` or `system_message` is called once for each attempt of a run. The time is that of the run's
acceptance. So all model calls of an attempt begin with the same text, and a provider's prompt cache hits.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

from worker.loop import data_block
from worker.loop.conversation import Conversation
from worker.loop.definition import Definition
from worker.loop.prompt import Prompt, Text
from worker.loop.run_context import RunContext
from worker.loop.user_function import call

NAMES = ("run_context", "session_state")  # what a function that returns a text can name
_NAME = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")


def of_run(conversation: Conversation) -> Definition:
    """Return the definition of *conversation* with the texts that it has in this run.

    Raises:
        HookFailed: a function of the definition raised an error.
    """
    definition, prompt = conversation.definition, conversation.definition.prompt
    if _is_filled_in(conversation):
        return definition
    context = conversation.context(key=f"{conversation.run_id}:prompt")
    values = {**context.session_state, **context.dependencies} if prompt.resolve_in_context else {}
    text = partial(_text, conversation, context, values)
    instructions = definition.instructions
    return replace(
        definition,
        instructions=(text(instructions),) if callable(instructions) else tuple(map(text, instructions)),
        prompt=replace(
            prompt,
            description=text(prompt.description),
            expected_output=text(prompt.expected_output),
            additional_context=text(prompt.additional_context),
            system_message=None if prompt.system_message is None else text(prompt.system_message),
            time=_time(prompt, conversation),
            data=_data(prompt, conversation),
        ),
    )


def _is_filled_in(conversation: Conversation) -> bool:
    """Return whether the texts of the definition are the same in every run: most are, and stay as they are."""
    definition, prompt = conversation.definition, conversation.definition.prompt
    instructions, system_message = definition.instructions, prompt.system_message
    if callable(instructions) or callable(system_message) or prompt.add_datetime_to_context or conversation.data:
        return False
    if conversation.dependencies and (prompt.add_dependencies_to_context or conversation.shows_dependencies):
        return False
    texts = (*instructions, system_message or "", prompt.description, prompt.expected_output, prompt.additional_context)
    return not any("{" in text for text in texts)


def _text(conversation: Conversation, context: RunContext, values: Mapping[str, Any], source: Text) -> str:
    if callable(source):
        available = {"run_context": context, "session_state": context.session_state}
        result = call(source, available, conversation=conversation)
        source = result if isinstance(result, str) else "\n".join(map(str, result or ()))
    return _filled_in(source, values)


def _filled_in(text: str, values: Mapping[str, Any]) -> str:
    """Return *text* with the value of a name for `{name}`. Braces around anything else stay."""

    def value(found: re.Match[str]) -> str:
        if found[1] not in values:
            return found[0]
        known = values[found[1]]
        return data_block.escape(
            known if isinstance(known, str) else json.dumps(known, ensure_ascii=False, default=str)
        )

    return _NAME.sub(value, text) if values else text


def _time(prompt: Prompt, conversation: Conversation) -> str:
    if not prompt.add_datetime_to_context:
        return ""
    accepted_at = conversation.created_at.astimezone(ZoneInfo(prompt.timezone_identifier))
    return f"(The time of this request is {accepted_at.strftime(prompt.datetime_format)}.)"


def _data(prompt: Prompt, conversation: Conversation) -> tuple[str, ...]:
    asked = prompt.add_dependencies_to_context or conversation.shows_dependencies
    if not asked or not conversation.dependencies:
        return conversation.data
    values = json.dumps(conversation.dependencies, ensure_ascii=False, sort_keys=True, default=str)
    return (data_block.block(data_block.DEPENDENCIES, values), *conversation.data)
