"""Read the options of a definition as people write them, and collect every mistake in them.

None is the default of each option. A value of another kind is a mistake with a sentence, and the default is used.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, cast
from zoneinfo import ZoneInfo

from worker.domain import ChatMessage, ChatModel, bounds, check_id
from worker.errors import DefinitionInvalid, SchemaInvalid, TeamSessionsError, ToolNotDescribable
from worker.loop import answer, ask_tool, delegate, history_tools, hooks, prompt_text, state_tool
from worker.loop.answer import AnswerSchema
from worker.loop.definition import Definition, Hook, Instructions, slug
from worker.loop.prompt import Text
from worker.loop.run_context import name_of, problem_of_call
from worker.loop.tools import Tool, as_tool
from worker.models.openai_chat import OpenAIChat
from worker.toolkits import flattened

T = TypeVar("T")
BUILT_IN = {delegate.NAME, state_tool.NAME, ask_tool.ask_user.name, *(t.name for t in history_tools.ALL)}


class Checked:
    """The options of one definition. `mistakes` has a sentence for each that is wrong."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = options
        self.mistakes: list[str] = []

    def is_set(self, name: str) -> bool:
        """Return whether an option has a value."""
        return self._options.get(name) is not None

    def value(self, name: str, kind: type[T] | tuple[type[T], ...], *, expected: str) -> T | None:
        """Return the value of an option that is an instance of *kind*, or None."""
        value = self._options.get(name)
        if value is None or isinstance(value, kind):
            return value
        self.mistakes.append(f"{name} is {_shown(value)}; expected {expected}")
        return None

    def text(self, name: str, default: str = "") -> str:
        """Return a text."""
        return self.value(name, str, expected="text") or default

    def flag(self, name: str, *, default: bool = False) -> bool:
        """Return True or False."""
        value = self.value(name, bool, expected="True or False")
        return default if value is None else value

    def number(self, name: str, *, least: int = 0) -> int | None:
        """Return a whole number, *least* or more; or None."""
        value = self.value(name, int, expected=f"a whole number, {least} or more")
        if value is not None and (isinstance(value, bool) or value < least):
            self.mistakes.append(f"{name} is {value!r}; expected {least} or more")
            return None
        return value

    def instructions(self) -> Instructions:
        """Return the instructions as lines, or the function that returns them."""
        value = self._options.get("instructions")
        if value is None or isinstance(value, str):
            return (value,) if value else ()
        if callable(value):
            return cast(Instructions, self._function("instructions", value))
        if not isinstance(value, (list, tuple)):
            self.mistakes.append(f"instructions is {_shown(value)}; expected text, a list of texts, or a function")
            return ()
        for line in value:
            if line is not None and not isinstance(line, str):
                self.mistakes.append(f"instructions has {_shown(line)} in its list; expected texts")
        return tuple(line for line in value if isinstance(line, str))

    def text_or_function(self, name: str) -> Text | None:
        """Return a text, or a function that returns one."""
        value = self._options.get(name)
        if callable(value):
            return self._function(name, value)
        return self.value(name, str, expected="text, or a function that returns it")

    def functions(self, name: str) -> tuple[Hook, ...]:
        """Return functions."""
        given = self._sequence(name, expected="a list of functions")
        for hook in given:
            if not callable(hook):
                self.mistakes.append(f"{name} has {_shown(hook)} in its list; expected functions")
            elif problem := problem_of_call(hook, hooks.NAMES[name]):
                self.mistakes.append(f"{name} has {name_of(hook)!r}, which cannot be called: {problem}")
        return tuple(hook for hook in given if callable(hook))

    def id(self, default: str) -> str:
        """Return the id: the option, or a slug of the name, or *default*."""
        id, name = self.value("id", str, expected="text"), self.value("name", str, expected="text")
        from_name = slug(name or "")
        if id is None and name and not from_name:
            self.mistakes.append(f"name {name!r} has no letter or digit to make an id of; set an id: id={default!r}")
        try:
            return check_id(id if id is not None else from_name or default, field="id")
        except TeamSessionsError as error:
            self.mistakes.append(error.message)
            return default

    def model(self) -> ChatModel | None:
        """Return the model."""
        return self.as_model(self._options.get("model"), "model")

    def as_model(self, value: object, name: str) -> ChatModel | None:
        """Return a model. A text names one of OpenAI's, or of the server that OPENAI_BASE_URL names."""
        if isinstance(value, str) and value.strip():
            return OpenAIChat(id=value.strip().removeprefix("openai:"))
        if value is None or (isinstance(value, ChatModel) and not isinstance(value, type)):
            return value
        expected = "a model, such as OpenAIChat(id='gpt-5-mini'), or its name"
        self.mistakes.append(f"{name} is {_shown(value)}; expected {expected}")
        return None

    def tools(self) -> tuple[Tool, ...]:
        """Return functions and toolkits as tools."""
        result: dict[str, Tool] = {}
        for given in self._sequence("tools", expected="a list of functions"):
            try:
                tools = [as_tool(each) for each in flattened(given)]
            except ToolNotDescribable as error:
                self.mistakes.append(error.message)
                continue
            for tool in tools:
                if tool.name in result:
                    self.mistakes.append(f"two tools are named {tool.name!r}; expected different names")
                if tool.name in BUILT_IN:
                    self.mistakes.append(f"a tool is named {tool.name!r}, like a built-in tool; give it another name")
                result[tool.name] = tool
        return tuple(result.values())

    def tool_choice(self, tools: Sequence[Tool]) -> str | None:
        """Return which tool the first model call must use. OpenAI's form of a tool's name is read too."""
        value = self._options.get("tool_choice")
        if isinstance(value, Mapping):
            value = (value.get("function") or {}).get("name")
        names = [tool.name for tool in tools]
        if value is None or value in ("auto", "required", "none", *names):
            return value
        choices = ", ".join(["'auto'", "'required'", "'none'", *(repr(name) for name in names)])
        self.mistakes.append(f"tool_choice is {_shown(value)}; expected one of {choices}")
        return None

    def members(self) -> tuple[Definition, ...]:
        """Return the definitions of the members."""
        result: dict[str, Definition] = {}
        for member in self._sequence("members", expected="a list of agents and teams"):
            definition = getattr(member, "definition", None)
            if not isinstance(definition, Definition):
                self.mistakes.append(f"a member is a {type(member).__name__}; expected an Agent or a Team")
                continue
            if definition.id in result:
                self.mistakes.append(f"two members have the id {definition.id!r}; expected different ids")
            result[definition.id] = definition
        return tuple(result.values())

    def state(self) -> dict[str, Any]:
        """Return the session's first state, as it will be stored."""
        value = self.mapping("session_state")
        try:
            stored = cast(dict[str, Any], json.loads(json.dumps(value, allow_nan=False)))
            bounds.check_state(stored, before={}, field="session_state")
            return stored
        except (TypeError, ValueError) as error:
            self.mistakes.append(f"session_state cannot be stored as JSON: {error}")
        except TeamSessionsError as error:
            self.mistakes.append(error.message)
        return {}

    def mapping(self, name: str) -> dict[str, Any]:
        """Return a dict."""
        return dict(self.value(name, Mapping, expected="a dict") or {})

    def examples(self) -> tuple[ChatMessage, ...]:
        """Return `additional_input`: texts of a user, or messages with a role and a content."""
        messages = []
        for given in self._sequence("additional_input", expected="a list of messages"):
            fields = given if isinstance(given, Mapping) else {k: getattr(given, k, None) for k in ("role", "content")}
            role, content = ("user", given) if isinstance(given, str) else (fields.get("role"), fields.get("content"))
            if role in ("user", "assistant", "system") and isinstance(content, str):
                messages.append(ChatMessage(role, content))
            else:
                expected = "texts, or {'role': 'user' or 'assistant', 'content': text}"
                self.mistakes.append(f"additional_input has {_shown(given)} in its list; expected {expected}")
        return tuple(messages)

    def time_zone(self) -> str:
        """Return the name of a time zone."""
        name = self.text("timezone_identifier", "UTC")
        try:
            ZoneInfo(name)
        except (ValueError, OSError, KeyError):
            self.mistakes.append(f"timezone_identifier is {name!r}; expected a name such as 'Europe/Berlin'")
            return "UTC"
        return name

    def answer_schema(self, name: str) -> AnswerSchema | None:
        """Return what an answer or an input must fit."""
        value = self._options.get(name)
        if value is None:
            return None
        try:
            return answer.of(value)
        except SchemaInvalid as error:
            self.mistakes.append(error.message.replace("output_schema", name, 1).removesuffix("."))
            return None

    def choice(self, name: str, choices: Sequence[str]) -> str:
        """Return one of *choices*, by default the first."""
        value = self._options.get(name)
        if value is None or value in choices:
            return choices[0] if value is None else str(value)
        self.mistakes.append(f"{name} is {_shown(value)}; expected one of {', '.join(choices)}")
        return choices[0]

    def raise_mistakes(self, what: str) -> None:
        """Raise DefinitionInvalid if there are mistakes."""
        if self.mistakes:
            listed = "".join(f"\n  {mistake}" for mistake in self.mistakes)
            raise DefinitionInvalid(what=what, count=len(self.mistakes), mistakes=listed)

    def _function(self, name: str, function: Hook) -> Hook:
        if problem := problem_of_call(function, prompt_text.NAMES):
            self.mistakes.append(f"{name} is {name_of(function)!r}, which cannot be called: {problem}")
        return function

    def _sequence(self, name: str, *, expected: str) -> Sequence[Any]:
        value = self._options.get(name)
        if value is None or isinstance(value, (list, tuple)):
            return value or ()
        self.mistakes.append(f"{name} is {_shown(value)}; expected {expected}: {name}=[…]")
        return ()


def _shown(value: object) -> str:
    """Return how a mistake names a value: short values as they are, others by their type."""
    if isinstance(value, (str, int, float)) and len(repr(value)) <= 80:
        return repr(value)
    return "a function" if callable(value) and not isinstance(value, type) else f"a {type(value).__name__}"
