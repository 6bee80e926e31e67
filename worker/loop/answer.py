"""Answers that must fit a schema: whether a text does, and the one repair of an answer that does not.

An answer that does not fit is written with what is wrong with it, as messages of a delegation of its own: a worker that
takes the run over does not ask for it again, and no later context has it. Then the model is asked once more.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NoReturn

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import to_jsonable_python

from worker.domain import Draft, Message, Reply, Role, RunOptions, schemas
from worker.errors import AnswerInvalid, ArgumentInvalid, InputRefused, SchemaInvalid

REPAIR = "repair"
ASK_AGAIN = (
    "Your answer does not fit the schema: {problems}. Answer again with JSON that fits, and nothing else. "
    "The schema:\n{schema}"
)


@dataclass(frozen=True)
class AnswerSchema:
    """What an answer must fit: a JSON schema and, of a script or a definition, the pydantic model that it is of."""

    schema: Mapping[str, Any]
    name: str = "answer"
    model: Any = field(default=None, compare=False)

    @cached_property
    def _adapter(self) -> TypeAdapter[Any] | None:
        return None if self.model is None else TypeAdapter(self.model)

    def parse(self, text: str) -> Any:
        """Return the object of an answer that fits.

        Raises:
            Misfit: it does not fit.
        """
        value = schemas.parse_answer(text)
        if value is None:
            raise Misfit(["(all) (no JSON)"])
        if self._adapter is None:
            if wrong := schemas.paths(dict(self.schema), value):
                raise Misfit(wrong)
            return value
        try:
            return self._adapter.validate_python(value)
        except ValidationError as error:
            places = error.errors(include_input=False, include_url=False, include_context=False)[: schemas.LISTED]
            raise Misfit([f"{'.'.join(map(str, e['loc'])) or '(all)'} ({e['type']})" for e in places]) from None


class Misfit(Exception):
    """A text does not fit a schema. `problems`: where, without a word of the text."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = list(problems)


def of(given: Any, *, name: str = "answer") -> AnswerSchema:
    """Return what *given* stands for: a pydantic model, a dataclass or another type of it, or a JSON schema.

    Raises:
        SchemaInvalid
    """
    if isinstance(given, AnswerSchema):
        return given
    model = None if isinstance(given, Mapping) else given
    try:
        schema = dict(given) if model is None else schemas.strict(TypeAdapter(model).json_schema())
    except Exception as error:
        raise SchemaInvalid(problem=f"no schema can be made of it ({type(error).__name__})") from error
    if (mistake := schemas.mistake_in(schema)) is not None:
        raise SchemaInvalid(problem=mistake)
    label = given.__name__ if isinstance(given, type) and issubclass(given, BaseModel) else name
    return AnswerSchema(schema, re.sub(r"[^A-Za-z0-9_-]", "_", label)[:64] or name, model)


def of_run(options: RunOptions, definition: Any) -> AnswerSchema | None:
    """Return what the answer of a run must fit: its caller's schema, or that of its definition."""
    if options.output_schema is None:
        return definition.output_schema  # type: ignore[no-any-return]
    return AnswerSchema(options.output_schema, options.output_name or "answer")


def repair_of(delegation: str | None) -> str:
    """Return the delegation that the repair of a conversation's answer is written under."""
    return REPAIR if delegation is None else f"{delegation}.{REPAIR}"


def is_repair(delegation: str | None) -> bool:
    """Tell whether a delegation is the repair of an answer, and no member's work."""
    return delegation is not None and delegation.rpartition(".")[2] == REPAIR


def as_input(schema: AnswerSchema | None, given: Any) -> Any:
    """Return an input as it is stored: an object that an input_schema describes as JSON; everything else as it is.

    Raises:
        ArgumentInvalid: it does not fit.
    """
    if schema is None:
        return given
    if not isinstance(given, str):
        given = json.dumps(to_jsonable_python(given), ensure_ascii=False)
    try:
        schema.parse(given)
    except Misfit as misfit:
        problem = f"the input does not fit the input_schema, at {', '.join(misfit.problems)}"
        raise ArgumentInvalid(problem=problem) from None
    return given


def check_input(schema: AnswerSchema | None, log: Sequence[Message]) -> None:
    """Check the input of a conversation before its first reply. Raises InputRefused."""
    if schema is None or any(message.role is Role.ASSISTANT for message in log):
        return
    try:
        schema.parse(log[0].content)
    except Misfit as misfit:
        raise InputRefused(f"It does not fit the input_schema, at: {', '.join(misfit.problems)}") from None


def problems_of(schema: AnswerSchema | None, reply: Reply) -> list[str]:
    """Return where a reply does not fit *schema*. None is left if it fits, or there is no schema."""
    if schema is None:
        return []
    try:
        schema.parse(reply.content)
    except Misfit as misfit:
        return misfit.problems
    return []


def question(
    schema: AnswerSchema, reply: Reply, author: str, delegation: str | None, problems: Sequence[str]
) -> list[Draft]:
    """Return the two messages of a repair: the answer as it came, and what is wrong with it."""
    own = repair_of(delegation)
    text = ASK_AGAIN.format(problems="; ".join(problems), schema=json.dumps(dict(schema.schema), ensure_ascii=False))
    answer = Draft(Role.ASSISTANT, author, reply.content, delegation=own, usage=reply.usage)
    return [answer, Draft(Role.USER, author, text, delegation=own)]


def repairing(log: Sequence[Message], delegation: str | None) -> list[Message]:
    """Return the messages of the repair that a conversation has begun: none, two, or three after it has failed."""
    own = repair_of(delegation)
    return [message for message in list(log) if message.delegation == own]


def fail(author: str, problems: Sequence[str]) -> NoReturn:
    """Raise AnswerInvalid."""
    raise AnswerInvalid(author=author, paths=", ".join(problems))
