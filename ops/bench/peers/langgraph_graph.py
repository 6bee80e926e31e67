"""The graph that `langgraph dev` serves: one node that sends the model the last three runs and the input."""

from typing import Any

from langgraph.graph import END, START, MessagesState, StateGraph
from openai import AsyncOpenAI

client = AsyncOpenAI(max_retries=0)
ROLES = {"human": "user", "ai": "assistant"}


async def answer(state: MessagesState) -> dict[str, Any]:
    """Ask the model."""
    messages: Any = [{"role": ROLES[m.type], "content": m.content} for m in state["messages"][-7:]]
    reply = await client.chat.completions.create(model="rules", messages=messages)
    return {"messages": [{"role": "assistant", "content": reply.choices[0].message.content}]}


builder = StateGraph(MessagesState)
builder.add_node("answer", answer)
builder.add_edge(START, "answer")
builder.add_edge("answer", END)
graph = builder.compile()
