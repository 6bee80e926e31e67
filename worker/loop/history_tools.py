"""Tools by which a model reads more of the session's history than its context has: in pages, limited in size."""

from collections.abc import Sequence

from worker.domain import CHARS_PER_TOKEN, Excerpt, Message, Role, ToolCall, begin_of, width
from worker.loop.conversation import Conversation
from worker.loop.definition import Definition
from worker.loop.tools import Tool, tool
from worker.loop.window import LEAST, OWN_RESULT, READ_CALLS, READ_CHAT, READ_REST, READS_HISTORY, rest_line

SIZE = 20_000  # characters of one result
READ = 400  # messages read for one result, at most
LINE = 300  # room for the last line of a page
ARGUMENTS = 1_000  # characters of a call's arguments


@tool(name=READ_CHAT)
def _chat(num_runs: int | None = None, before: int | None = None) -> str:
    """Read what was said in this conversation before, newest first, in pages.

    Args:
        num_runs: only this many of the last turns; without it, all of them.
        before: only messages before the one with this number. Use it to read the next page, or any part.
    """
    raise NotImplementedError("carried out by the loop")


@tool(name=READ_CALLS)
def _tool_calls(num_calls: int | None = None, before: int | None = None) -> str:
    """Read which tools were called in this conversation before and what they returned, newest first, in pages.

    Args:
        num_calls: only this many of the last calls; without it, all of them.
        before: only results before the message with this number. Use it to read the next page, or any part.
    """
    raise NotImplementedError("carried out by the loop")


@tool(name=READ_REST)
def read_rest(message: int, begin: int = 0) -> str:
    """Read on in a message that is cut here.

    Args:
        message: its number.
        begin: the character to begin at.
    """
    raise NotImplementedError("carried out by the loop")


ALL: tuple[Tool, ...] = (_chat, _tool_calls, read_rest)


def tools(definition: Definition) -> tuple[Tool, ...]:
    """Return the tools of a definition. The last one is only sent to a model if a message is cut."""
    enabled = (definition.read_chat_history, definition.read_tool_call_history, True)
    return tuple(tool for tool, is_enabled in zip(ALL, enabled, strict=True) if is_enabled)


def answer(conversation: Conversation, call: ToolCall) -> str:
    """Return the result of a call of one of these tools."""
    tool = next(tool for tool in ALL if tool.name == call.name)
    arguments = tool.parse(call.arguments)
    if isinstance(arguments, str):
        return arguments
    for name, number in arguments.items():
        least = 0 if name == "begin" else 1
        if number is not None and number < least:
            return f"Error: {name} is {number}. Expected {least} or more{'' if tool is read_rest else ', or nothing'}."
    tokens = conversation.limits.context_tokens
    size = SIZE if tokens is None else max(LEAST, min(SIZE, tokens * CHARS_PER_TOKEN // OWN_RESULT))
    if tool is read_rest:
        return _rest(conversation, **arguments, size=size)
    reader, before = conversation.history_reader, arguments["before"]
    if tool is _chat:
        excerpts = reader.chat(limit=READ, num_runs=arguments["num_runs"], before=before, cut=size)
        return _page([(e, f"{e.message.role}: ") for e in excerpts], more=len(excerpts) == READ, size=size)
    number = arguments["num_calls"]
    results = reader.tool_results(limit=min(number or READ, READ), before=before, cut=size)
    lines = [(result, _call(reply, result.message)) for reply, result in results]
    return _page(lines, more=len(results) == READ != number, size=size)


def _rest(conversation: Conversation, *, message: int, begin: int, size: int) -> str:
    """Return a page of one message: of this run, or of an earlier one."""
    own = next((m for m in list(conversation.journal.log) if m.seq == message), None)
    if own is not None:
        text, length = own.content[begin : begin + size], len(own.content)
    else:
        excerpt = conversation.history_reader.message(message, begin=begin, limit=size)
        if excerpt is None:
            return f"Error: there is no message {message} in this conversation."
        text, length = excerpt.message.content, excerpt.length
    page = begin_of(text, size - LINE)
    if not page:
        return f"There is nothing from character {begin} on: message {message} has {length:,} characters."
    end = begin + len(page)
    return page if end >= length else f"{page}\n{rest_line(message, begin=end, length=length)}"


def _call(reply: Message, result: Message) -> str:
    arguments = next((c.arguments for c in reply.tool_calls if c.id == result.tool_call_id), "")
    return f"{result.author}({begin_of(arguments, ARGUMENTS)}) returned: "


def _page(lines: Sequence[tuple[Excerpt, str]], *, more: bool, size: int) -> str:
    """Return the first messages that fit, each behind its number and its text here, and how to read on."""
    fitting: list[str] = []
    left, oldest = size - LINE, 0
    for excerpt, label in lines:
        message = excerpt.message
        text = message.content
        if message.role is Role.TOOL and message.author in READS_HISTORY:
            text = f"({excerpt.length:,} characters of this history, which are not repeated.)"
        line = f"[{message.seq}] {label}{text}"
        whole = text is not message.content or len(text) == excerpt.length
        if not whole or (short := begin_of(line, left, measure=width)) != line:
            if fitting:
                more = True
                break
            short = begin_of(line, left - LINE, measure=width)
            read = max(0, len(short) - len(line) + len(text))
            short += "\n" + rest_line(message.seq, begin=read, length=excerpt.length)
        fitting.append(short)
        left, oldest = left - width(short) - 1, message.seq
    if not fitting:
        return "There is nothing before this."
    if more:
        fitting.append(f"(Left out for size: everything before message {oldest}. To read on, use before={oldest}.)")
    return "\n".join(fitting)
