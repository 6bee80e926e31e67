"""What `@tool` makes of a function: a schema from its signature and docstring, and calls that always end in text."""

import asyncio
import dataclasses
import functools
import json
import threading
from collections.abc import Callable
from datetime import date
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, field_validator

from worker.errors import ToolNotDescribable
from worker.loop.run_context import RunContext
from worker.loop.tools import as_tool, tool
from worker.observe import metrics

CONTEXT = RunContext("run", "session", "user", "run:2:0", threading.Event())


class Order(BaseModel):
    """What is ordered."""

    item: str
    count: int = 1

    @field_validator("item")
    @classmethod
    def _known(cls, item: str) -> str:
        return {"bread": "bread"}[item]  # a KeyError, which pydantic lets through


@dataclasses.dataclass
class Point:
    """A place."""

    x: int


@tool
def add(a: int, b: int = 1) -> int:
    """Add two numbers."""
    return a + b


def test_the_schema_comes_from_the_signature():
    """Defaults, optional values, literals, lists and pydantic models are described; nothing else is allowed."""

    @tool
    def order(
        what: Order, tags: list[str], how: Literal["now", "later"], note: str | None = None, limit: int = 3
    ) -> None:
        """Order something."""

    properties = order.parameters["properties"]

    assert order.parameters["required"] == ["what", "tags", "how"]
    assert order.parameters["additionalProperties"] is False
    assert properties["what"]["$ref"] == "#/$defs/Order"
    assert order.parameters["$defs"]["Order"]["required"] == ["item"]
    assert properties["tags"]["items"] == {"type": "string"}
    assert properties["how"]["enum"] == ["now", "later"]
    assert [kind["type"] for kind in properties["note"]["anyOf"]] == ["string", "null"]
    assert (properties["note"]["default"], properties["limit"]["default"]) == (None, 3)


def _google(city: str, days: int = 1) -> None:
    """Tell the weather.

    It looks ahead.

    Args:
        city: Where,
            by name.
        days: How far.
    """


def _numpy(city: str, days: int = 1) -> None:
    """Tell the weather.

    It looks ahead.

    Parameters
    ----------
    city : str
        Where,
        by name.
    days : int
        How far.
    """


@pytest.mark.parametrize("function", [_google, _numpy])
def test_the_docstring_describes_the_tool_and_its_parameters(function):
    """Google's and numpy's style are both read; the parameters' part does not stay in the tool's description."""
    described = tool(function).describe

    assert described.description == "Tell the weather.\nIt looks ahead."
    descriptions = {name: p["description"] for name, p in described.parameters["properties"].items()}
    assert descriptions == {"city": "Where,\nby name.", "days": "How far."}


def test_what_is_said_explicitly_goes_before_the_docstring():
    """A name, a description and a parameter's `Field` win; `repeatable=False` is kept."""

    def pay(amount: Annotated[int, Field(description="In cents.", gt=0)]) -> None:
        """Pay.

        Args:
            amount: How much.
        """

    made = tool(name="pay_now", description="Pay at once.", repeatable=False)(pay)

    assert (made.name, made.description, made.repeatable) == ("pay_now", "Pay at once.", False)
    assert made.parameters["properties"]["amount"]["description"] == "In cents."
    assert tool(pay).repeatable
    assert as_tool(made) is made
    assert as_tool(pay).name == "pay"


def test_the_run_context_is_filled_in_and_hidden():
    """The model sees no parameter for the context, and the function is called with it."""

    @tool
    def who(greeting: str, context: RunContext) -> str:
        """Greet."""
        return f"{greeting} {context.user_id} {context.idempotency_key}"

    assert list(who.parameters["properties"]) == ["greeting"]
    assert who.call('{"greeting": "hello"}', CONTEXT).text == "hello user run:2:0"


def test_sync_and_async_functions_are_called_with_checked_values():
    """Arguments become the declared types, missing ones their defaults; no arguments at all are an empty object."""

    @tool
    async def total(orders: list[Point] | None = None, json: int = 0) -> int:
        """Sum up."""
        await asyncio.sleep(0)
        return sum(order.x for order in orders or []) + json

    assert add.call('{"a": 1}', CONTEXT).text == "2"
    assert total.call('{"orders": [{"x": 2}, {"x": 3}], "json": 4}', CONTEXT).text == "9"
    assert total.call("", CONTEXT).text == "0"
    assert add(a=1, b=2) == 3


@pytest.mark.parametrize(
    ("result", "text"),
    [
        ("é", "é"),
        ("", ""),
        (None, "null"),
        (True, "true"),
        (1.5, "1.5"),
        (["é", {"a": None}], '["é", {"a": null}]'),
        (date(2026, 1, 2), '"2026-01-02"'),
        (Point(1), '{"x": 1}'),
        (Order(item="bread"), '{"item": "bread", "count": 1}'),
        ([Order(item="bread")], '[{"item": "bread", "count": 1}]'),
        (b"text", "text"),
        ((one for one in ("a", "b")), "ab"),
        ((one for one in (1, 2)), "[1, 2]"),
        ({(1, 2): 3}, '{"1,2": 3}'),
    ],
)
def test_every_kind_of_result_becomes_text(result, text):
    """Text stays as it is, the rest becomes JSON where it can; a result is never an error."""

    @tool
    def give() -> Any:
        """Give."""
        return result

    assert give.call("{}", CONTEXT).text == text


@pytest.mark.parametrize("error", [ValueError("no such city"), SystemExit("bye"), asyncio.CancelledError("late")])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_whatever_a_function_raises_becomes_text(error, asynchronous):
    """The model reads the error's type and words; even an exit cannot leave the run without a result."""

    def fail() -> None:
        raise error

    async def fail_later() -> None:
        raise error

    text = tool(fail_later if asynchronous else fail).call("{}", CONTEXT).text

    assert text.startswith(f"Error: {type(error).__name__}")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ("{", "the arguments of 'add' are not JSON"),
        ("[" * 100_000, "the arguments of 'add' are not JSON"),
        ("[1, 2]", "the arguments of 'add' are a list. Send a JSON object."),
        ('{"a": "one"}', "the arguments of 'add' do not fit its schema: a: Input should be a valid integer"),
        ('{"b": 1}', "a: Field required"),
        ('{"a": 1, "c": 2}', "c: Extra inputs are not permitted"),
    ],
)
def test_arguments_that_do_not_fit_are_explained_to_the_model(arguments, problem):
    """The function is not called, and the text says which argument is wrong and how."""
    text = add.call(arguments, CONTEXT).text

    assert text.startswith("Error: ")
    assert problem in text


def test_a_validator_that_fails_on_its_own_becomes_text():
    """A fault in a user's pydantic model is a result like any other."""

    @tool
    def order(what: Order) -> None:
        """Order."""

    assert order.call(json.dumps({"what": {"item": "gold"}}), CONTEXT).text == "Error: KeyError: 'gold'"


def _starred(*numbers: int) -> None: ...
def _double_starred(**numbers: int) -> None: ...
def _positional(number: int, /) -> None: ...
def _positional_context(context: RunContext, /) -> None: ...
def _untyped(number) -> None: ...  # type: ignore[no-untyped-def]
def _of_object(number: threading.Event) -> None: ...
def _of_function(number: Callable[[int], int]) -> None: ...
def _of_unknown_type(number: "Nowhere") -> None: ...  # type: ignore[name-defined] # noqa: F821
def _underscored(_number: int) -> None: ...
def _reserved(model_config: int) -> None: ...


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (_starred, "parameter 'numbers' is variadic positional"),
        (_double_starred, "parameter 'numbers' is variadic keyword"),
        (_positional, "parameter 'number' is positional-only"),
        (_positional_context, "parameter 'context' is positional-only"),
        (_untyped, "parameter 'number' has no type"),
        (_of_object, "Event"),
        (_of_function, "JsonSchema"),
        (_of_unknown_type, "name 'Nowhere' is not defined"),
        (_underscored, "parameter '_number' needs another name"),
        (_reserved, "parameter 'model_config' needs another name"),
    ],
)
def test_a_function_that_no_schema_describes_is_refused_at_once(function, problem):
    """The error comes when the tool is made, and names the function and the parameter or type."""
    with pytest.raises(ToolNotDescribable) as raised:
        tool(function)

    assert f"Function {function.__name__!r} cannot be a tool" in raised.value.message
    assert problem in raised.value.message


class Weather:
    """What people give as tools besides functions."""

    def __init__(self, unit: str = "C") -> None:
        self.unit = unit

    def ask(self, city: str) -> str:
        """Tell the weather.

        Args:
            city: Where.
        """
        return f"{city}: 20 {self.unit}"

    async def __call__(self, city: str) -> str:
        """Tell the weather, called."""
        return self.ask(city)


def test_what_people_give_as_tools_is_described_by_what_it_does() -> None:
    """Bound methods, partials and callable objects; the values that a partial holds are hidden from the model."""

    def search(query: str, key: str, limit: int = 3) -> str:
        """Search."""
        return f"{query} with {key}, {limit}"

    method, called = tool(Weather().ask), tool(Weather("F"))
    partially = tool(functools.partial(search, key="secret"))

    assert (method.name, called.name, partially.name) == ("ask", "Weather", "search")
    assert (method.description, called.description) == ("Tell the weather.", "Tell the weather, called.")
    assert method.parameters["properties"]["city"]["description"] == "Where."
    assert sorted(partially.parameters["properties"]) == ["limit", "query"]
    assert "secret" not in json.dumps(partially.parameters)
    assert method.call('{"city": "Rome"}', CONTEXT).text == "Rome: 20 C"
    assert called.call('{"city": "Rome"}', CONTEXT).text == "Rome: 20 F"
    assert partially.call('{"query": "x"}', CONTEXT).text == "x with secret, 3"
    assert partially.call('{"query": "x", "key": "mine"}', CONTEXT).failed


@pytest.mark.parametrize("name", ["<lambda>", "two words", "x" * 65, "größe", "1st", ""])
def test_a_name_that_no_provider_accepts_is_a_mistake(name: str) -> None:
    """At once, and not as a refused request of the first run."""

    def function() -> None: ...

    function.__name__ = name
    with pytest.raises(ToolNotDescribable, match="providers accept names of 1 to 64 ASCII letters"):
        tool(function)
    assert tool(name="fine")(function).name == "fine"


def test_a_call_that_fails_says_so_and_leaves_a_trace(caplog: pytest.LogCaptureFixture) -> None:
    """The line has the type and the places of the error, and neither its words nor the arguments."""

    @tool
    def divide(a: int) -> float:
        """Divide."""
        return a / 0

    before = metrics.TOOL_FAILURES.labels("divide")._value.get()
    result = divide.call('{"a": 4711}', CONTEXT)

    assert result.failed
    assert metrics.TOOL_FAILURES.labels("divide")._value.get() == before + 1
    [record] = [record for record in caplog.records if record.message == "tool failed"]
    assert (record.tool, record.error) == ("divide", "ZeroDivisionError")  # type: ignore[attr-defined]
    assert "test_tools.py:" in record.at  # type: ignore[attr-defined]
    assert "4711" not in str(vars(record))


def test_the_options_of_a_tool_are_kept() -> None:
    """For the loop, and for the provider."""

    def answer() -> None: ...

    made = tool(stop_after_tool_call=True, strict=True)(answer)

    assert (made.stop_after_call, made.strict, made.describe.strict) == (True, True, True)
