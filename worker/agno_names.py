"""The names of Agno that our definitions and runs do not have themselves, and what becomes of each.

Scripts that were written for Agno name options that are called otherwise here, that are always so here, or that do not
exist. An *alias* is converted. What is *accepted* changes nothing, and is noted once. What is *absent* is a mistake in
the definition, with a sentence that says what to use instead. Every other name is a mistake, too.

`ops/handbook/names.md` lists them.
"""

import difflib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from worker.errors import ArgumentInvalid
from worker.observe import logs

log = logs.get(__name__)

LIMITS = "limits by their aliases"  # the option under which they are returned


class Treated(StrEnum):
    """What becomes of a name."""

    ALIAS = "alias"
    ACCEPTED = "accepted"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class Name:
    """A name of Agno, and a sentence about it. `convert` returns the options that an alias stands for."""

    treated: Treated
    sentence: str
    convert: Callable[[Any, Mapping[str, Any]], dict[str, Any]] | None = None


def _alias(sentence: str, convert: Callable[[Any, Mapping[str, Any]], dict[str, Any]]) -> Name:
    return Name(Treated.ALIAS, sentence, convert)


def _accepted(sentence: str) -> Name:
    return Name(Treated.ACCEPTED, sentence)


def _absent(sentence: str) -> Name:
    return Name(Treated.ABSENT, sentence)


def _limit(name: str) -> Name:
    def convert(value: Any, options: Mapping[str, Any]) -> dict[str, Any]:
        return {LIMITS: {**options.get(LIMITS, {}), name: value}}

    return _alias(f"limits=Limits({name}=…)", convert)


def _mode(mode: str) -> Name:
    return _alias(f"mode={mode!r}", lambda value, _: {"mode": mode} if value else {})


_RETRIEVAL = _absent("Retrieval is not part of Team Sessions. Give the search as a tool: tools=[search].")
_MEMORY = _absent("There are no memories of users. Keep them in your own database, and give tools that read and write.")
_NO_SECOND_MODEL = _absent("There is no second model for the wording. Ask for the form in the instructions.")
_MODELS_REASON = _absent("Models reason by themselves: OpenAIChat(request_params={'reasoning_effort': …}).")
_CODE = _absent("A definition is code. It does not change after it is made, and cannot be stored.")
_CALLABLE_DEFINITION = _absent("A definition is data, so nothing of it is computed and cached for a run.")
_ALWAYS_STREAMED = _accepted("All events always reach those who watch; a reader skips what it does not need.")

_MEDIA = _absent("An input is text.")
_PAST_SESSIONS = _absent("A run sees its own session only. Give a tool that searches your own database.")
_FOLLOWUPS = _absent("Ask for follow-up questions in the instructions.")
_FALLBACK = _absent("A run that its model fails is retried with the same model; see limits=Limits(model_retries=…).")

# Of a team and of an agent.
DEFINITION: dict[str, Name] = {
    "tool_call_limit": _limit("tool_calls"),
    "max_iterations": _limit("turns"),
    "retries": _limit("model_retries"),
    "fallback_models": _FALLBACK,
    "fallback_config": _FALLBACK,
    "search_past_sessions": _PAST_SESSIONS,
    "num_past_sessions_to_search": _PAST_SESSIONS,
    "num_past_session_runs_in_search": _PAST_SESSIONS,
    "followups": _FOLLOWUPS,
    "num_followups": _FOLLOWUPS,
    "followup_model": _FOLLOWUPS,
    "store_media": _MEDIA,
    "send_media_to_model": _MEDIA,
    "media_storage": _MEDIA,
    "checkpoint": _accepted("Every message is written before the run goes on."),
    "telemetry": _accepted("Nothing is sent to anybody."),
    "debug_mode": _accepted("`team-sessions runs show` and the log show what a run did."),
    "debug_level": _accepted("TEAM_SESSIONS_LOG_LEVEL sets the level of the log."),
    "stream": _accepted("`run(stream=True)` says whether a caller reads events."),
    "stream_events": _ALWAYS_STREAMED,
    "stream_intermediate_steps": _ALWAYS_STREAMED,
    "stream_member_events": _ALWAYS_STREAMED,
    "events_to_skip": _accepted("All events are sent; a reader skips what it does not need."),
    "store_events": _absent("Messages are the record of a run; its events live for an hour."),
    "store_member_responses": _accepted("The messages of members are always stored."),
    "show_members_responses": _accepted("`print_response` shows the members' answers."),
    "delay_between_retries": _accepted("Retries wait longer each time, up to a minute."),
    "exponential_backoff": _accepted("Retries always wait longer each time."),
    "store_tool_messages": _absent("Results of tools are stored: a run continues from them. Retention removes them."),
    "store_history_messages": _accepted("A message is stored once; later runs refer to it."),
    "cache_session": _accepted("A run reads its session when it begins."),
    "overwrite_db_session_state": _absent("Use `update_session_state`, which merges top-level keys."),
    "add_location_to_context": _absent("No web service is asked for the location. Put it into the instructions."),
    "system_message_role": _accepted("The system message has the role that its model expects."),
    "user_message_role": _absent("A user's message has the role `user`."),
    "build_context": _absent(
        "Instructions, history and input always form the context; system_message replaces the first."
    ),
    "build_user_context": _absent("The input is sent as it is."),
    "use_instruction_tags": _accepted("Instructions are sent as they are written."),
    "knowledge": _RETRIEVAL,
    "knowledge_filters": _RETRIEVAL,
    "knowledge_retriever": _RETRIEVAL,
    "add_knowledge_to_context": _RETRIEVAL,
    "enable_agentic_knowledge_filters": _RETRIEVAL,
    "update_knowledge": _RETRIEVAL,
    "references_format": _RETRIEVAL,
    "search_knowledge": _RETRIEVAL,
    "add_search_knowledge_instructions": _RETRIEVAL,
    "enable_agentic_memory": _MEMORY,
    "enable_user_memories": _MEMORY,
    "update_memory_on_run": _MEMORY,
    "add_memories_to_context": _MEMORY,
    "memory_manager": _MEMORY,
    "learning": _MEMORY,
    "add_learnings_to_context": _MEMORY,
    "reasoning": _MODELS_REASON,
    "reasoning_model": _MODELS_REASON,
    "reasoning_agent": _MODELS_REASON,
    "reasoning_min_steps": _MODELS_REASON,
    "reasoning_max_steps": _MODELS_REASON,
    "output_model": _NO_SECOND_MODEL,
    "output_model_prompt": _NO_SECOND_MODEL,
    "parser_model": _NO_SECOND_MODEL,
    "parser_model_prompt": _NO_SECOND_MODEL,
    "parse_response": _absent("An answer is parsed if it has an output_schema; `text` is what the model wrote."),
    "use_json_mode": _absent("OpenAIChat finds out what its server supports."),
    "structured_outputs": _absent("OpenAIChat finds out what its server supports."),
    "compression_manager": _absent("Summaries condense a session: enable_session_summaries=True."),
    "compress_tool_results": _accepted("Long results are cut where they are sent, and the model can read the rest."),
    "offload_tool_results": _absent("A long result is cut where it is sent, and the model can read the rest."),
    "compaction": _absent("Summaries condense a session: enable_session_summaries=True."),
    "skills": _absent("Put the text of a skill into the instructions, and its functions into the tools."),
    "filesystem": _absent("Give tools that read and write what the agent may touch."),
    "sandbox": _absent("Where a tool executes something is the tool's business."),
    "save_response_to_file": _absent("Write `run(…).content` into a file."),
    "cache_callables": _CALLABLE_DEFINITION,
    "callable_tools_cache_key": _CALLABLE_DEFINITION,
    "callable_knowledge_cache_key": _CALLABLE_DEFINITION,
    "callable_members_cache_key": _CALLABLE_DEFINITION,
}

# Of a team alone.
TEAM: dict[str, Name] = {
    "respond_directly": _mode("route"),
    "delegate_to_all_members": _mode("broadcast"),
    "get_member_information_tool": _accepted("A leader always knows its members."),
}

# Arguments of `run`.
RUN: dict[str, Name] = {
    "run_id": _absent("Runs get their ids here. To send a run twice and execute it once: enqueue(idempotency_key=…)."),
    "images": _MEDIA,
    "audio": _MEDIA,
    "videos": _MEDIA,
    "files": _MEDIA,
    "background": _absent("`enqueue` returns at once, and a worker executes the run."),
    **{name: DEFINITION[name] for name in ("stream_events", "stream_intermediate_steps", "debug_mode")},
    "retries": _absent("This is an option of the definition: limits=Limits(model_retries=…)."),
    **{
        name: _accepted("`print_response` prints the answer, tool calls and members.")
        for name in ("show_message", "show_reasoning", "show_full_reasoning", "show_members_responses", "console")
    },
    **{
        name: _absent("This is an option of the definition, not of one run.")
        for name in ("add_history_to_context", "add_session_state_to_context")
    },
    "knowledge_filters": _RETRIEVAL,
    "yield_run_output": _absent("The last event is terminal; `get_last_run_output` returns the result."),
}

# Of `SqliteDb` and `PostgresDb`.
_TABLES = ("session", "culture", "memory", "metrics", "eval", "knowledge", "traces", "spans", "versions", "components")
DB: dict[str, Name] = {
    **{f"{name}_table": _accepted("The tables have their own names.") for name in _TABLES},
    **{name: _accepted("The tables have their own schema.") for name in ("db_schema", "create_schema")},
    **{name: _accepted("A database is known by its address.") for name in ("id", "type")},
    "db_engine": _absent("Give its address: db_url."),
}

# Of `@tool`.
TOOL: dict[str, Name] = {
    "external_execution_silent": _accepted("A pending call is shown as any other."),
    "approval_type": _absent("Say who decides: decided_by='operator'. Decisions are recorded with the run."),
    "show_result": _accepted("A result is a message of its own; a reader shows what it wants."),
    **{
        name: _absent("A tool is called each time. Keep results in the tool itself.")
        for name in ("cache_results", "cache_ttl", "cache_dir")
    },
    **{
        name: _absent("Give the hook to the team or the agent: tool_hooks=[…].")
        for name in ("pre_hook", "post_hook", "tool_hooks")
    },
    **{name: _absent("Put it into the docstring.") for name in ("instructions", "add_instructions")},
}

# Of `OpenAIChat`.
MODEL: dict[str, Name] = {
    **{name: _accepted("A model is known by its id.") for name in ("name", "provider")},
    **{name: _accepted("Each call asks the model.") for name in ("cache_response", "cache_ttl", "cache_dir")},
    **{
        name: _accepted("The run retries its model: limits=Limits(model_retries=…).")
        for name in ("max_retries", "retries", "delay_between_retries", "exponential_backoff")
    },
    "timeout": _accepted("TEAM_SESSIONS_MODEL_SILENCE_SECONDS is how long a model may send nothing."),
    "organization": _absent("Send it as a header: request_params={'extra_headers': {'OpenAI-Organization': …}}."),
    **{
        name: _absent("Requests are sent by one client for a process. Set TEAM_SESSIONS_CA_FILE, or a base_url.")
        for name in ("http_client", "client", "async_client", "client_params", "default_headers", "default_query")
    },
}
KINDS: dict[str, dict[str, Name]] = {
    "agent": DEFINITION,
    "team": {**DEFINITION, **TEAM},
    "run": RUN,
    "db": DB,
    "tool": TOOL,
    "model": MODEL,
}


def check(kind: str, given: Mapping[str, Any], *, known: Collection[str]) -> None:
    """Check the arguments of a *kind*, such as 'run' or 'tool': *known* are those that it has itself.

    Raises:
        ArgumentInvalid: it names all that are absent or unknown.
    """
    mistakes: list[str] = []
    translate(kind, given, known=known, mistakes=mistakes)
    if mistakes:
        raise ArgumentInvalid(problem="; ".join(mistakes).removesuffix("."))


def accepted(kind: str) -> tuple[str, ...]:
    """Return the names that a *kind*, such as 'team', takes besides its own."""
    return tuple(name for name, entry in KINDS[kind].items() if entry.treated is not Treated.ABSENT)


def translate(kind: str, options: Mapping[str, Any], *, known: Collection[str], mistakes: list[str]) -> dict[str, Any]:
    """Return *options* under the names that are *known* here, and add a sentence to *mistakes* for each that is not.

    An absent option that is off (None, False, empty) asks for nothing, so it is no mistake.
    """
    names = KINDS[kind]
    result = {name: value for name, value in options.items() if name in known}
    for option, value in options.items():
        if option in known:
            continue
        name = names.get(option)
        if name is None:
            close = difflib.get_close_matches(option, [*known, *names], n=1)
            mistakes.append(f"there is no option {option!r}{f' (did you mean {close[0]!r}?)' if close else ''}")
        elif name.treated is Treated.ABSENT:
            mistakes += [f"{option} does not exist here. {name.sentence}"] if value else []
        elif name.convert is not None:
            result |= name.convert(value, result) if value is not None else {}
        elif option not in _noted:
            _noted.add(option)
            log.info("option changes nothing", option=option, because=name.sentence)
    return result


_noted: set[str] = set()
