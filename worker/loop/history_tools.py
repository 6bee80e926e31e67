"""Tools by which a model reads the session's past, beyond what its context shows. Newest first, bounded in size."""

from worker.domain.message import Message, ToolCall
from worker.loop.definition import Definition
from worker.loop.journal import HistoryReader
from worker.loop.tools import Tool, tool

SIZE = 20_000  # characters of one answer
READ = 400  # messages read for one answer, at most


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
    """Return those of these tools that a definition asks for."""
    wanted = (definition.read_chat_history, definition.read_tool_call_history)
    return tuple(t for t, is_wanted in zip(ALL, wanted, strict=True) if is_wanted)


def answer(history_reader: HistoryReader, call: ToolCall) -> str:
    """Return the result of a call of one of these tools."""
    tool = _chat if call.name == _chat.name else _tool_calls
    asked = tool.parse(call.arguments)
    if isinstance(asked, str):
        return asked
    number = next(iter(asked.values()))
    if number is not None and number < 1:
        return f"Error: {next(iter(asked))} is {number}. Expected 1 or more, or nothing for all."
    if tool is _chat:
        said = history_reader.chat(limit=READ, num_runs=number)
        return _fitting([(m.seq, f"[{m.seq}] {m.role}: {m.content}") for m in said], more=len(said) == READ)
    wanted = min(number or READ, READ)
    done = history_reader.tool_results(limit=wanted)
    return _fitting([_spelled(reply, result) for reply, result in done], more=len(done) == READ != number)


def _spelled(reply: Message, result: Message) -> tuple[int, str]:
    arguments = next((c.arguments for c in reply.tool_calls if c.id == result.tool_call_id), "")
    return result.seq, f"[{result.seq}] {result.author}({arguments}) returned: {result.content}"


def _fitting(lines: list[tuple[int, str]], *, more: bool) -> str:
    """Return the first of *lines* (seq, text) that fit, and say what was left out."""
    shown: list[str] = []
    left, oldest = SIZE, 0
    for seq, line in lines:
        if len(line) > left and shown:
            more = True
            break
        shown.append(line if len(line) <= left else f"{line[:left]} … (cut: it has {len(line)} characters)")
        left, oldest = left - len(line), seq
    if not shown:
        return "There is nothing before this."
    if more:
        shown.append(f"(Left out for size: everything before message {oldest}.)")
    return "\n".join(shown)
