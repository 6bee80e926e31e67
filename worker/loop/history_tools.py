"""Tools by which a model reads more of the session's history than its context has. Newest first, limited in size."""

from worker.domain import Message, ToolCall
from worker.loop.conversation import HistoryReader
from worker.loop.definition import Definition
from worker.loop.tools import Tool, tool

SIZE = 20_000  # characters of one result
READ = 400  # messages read for one result, at most


@tool(name="get_chat_history")
def _chat(num_runs: int | None = None) -> str:
    """Read what was said in this conversation before, newest first.

    Args:
        num_runs: only the last so many turns of the conversation; all of it without.
    """
    raise NotImplementedError("carried out by the loop")


@tool(name="get_tool_call_history")
def _tool_calls(num_calls: int | None = None) -> str:
    """Read which tools were called in this conversation before and what they returned, newest first.

    Args:
        num_calls: only the last so many calls; all of them without.
    """
    raise NotImplementedError("carried out by the loop")


ALL: tuple[Tool, ...] = (_chat, _tool_calls)


def tools(definition: Definition) -> tuple[Tool, ...]:
    """Return the tools that a definition enables."""
    enabled = (definition.read_chat_history, definition.read_tool_call_history)
    return tuple(tool for tool, is_enabled in zip(ALL, enabled, strict=True) if is_enabled)


def answer(history_reader: HistoryReader, call: ToolCall) -> str:
    """Return the result of a call of one of these tools."""
    tool = _chat if call.name == _chat.name else _tool_calls
    arguments = tool.parse(call.arguments)
    if isinstance(arguments, str):
        return arguments
    name, number = next(iter(arguments.items()))
    if number is not None and number < 1:
        return f"Error: {name} is {number}. Expected 1 or more, or nothing for all."
    if tool is _chat:
        messages = history_reader.chat(limit=READ, num_runs=number)
        return _fitting([(m.seq, f"[{m.seq}] {m.role}: {m.content}") for m in messages], more=len(messages) == READ)
    results = history_reader.tool_results(limit=min(number or READ, READ))
    return _fitting([_line(reply, result) for reply, result in results], more=len(results) == READ != number)


def _line(reply: Message, result: Message) -> tuple[int, str]:
    arguments = next((c.arguments for c in reply.tool_calls if c.id == result.tool_call_id), "")
    return result.seq, f"[{result.seq}] {result.author}({arguments}) returned: {result.content}"


def _fitting(lines: list[tuple[int, str]], *, more: bool) -> str:
    """Return the first of *lines* (seq, text) that fit, and a note about what was left out."""
    fitting: list[str] = []
    left, oldest = SIZE, 0
    for seq, line in lines:
        if len(line) > left and fitting:
            more = True
            break
        fitting.append(line if len(line) <= left else f"{line[:left]} … (cut: it has {len(line)} characters)")
        left, oldest = left - len(line), seq
    if not fitting:
        return "There is nothing before this."
    if more:
        fitting.append(f"(Left out for size: everything before message {oldest}.)")
    return "\n".join(fitting)
