"""How long `Runner.run` takes in sessions of these sizes: {size: [milliseconds, …]}, the sizes in turn.

The OpenAI Agents SDK with its SQLAlchemySession, which is set to return the last 6 items, so the last 3 runs.
https://openai.github.io/openai-agents-python/sessions/sqlalchemy_session/
"""

import asyncio
import json
import os
import sys
import time
from typing import Any

from agents import Agent, OpenAIChatCompletionsModel, Runner, SessionSettings, set_tracing_disabled
from agents.extensions.memory import SQLAlchemySession
from openai import AsyncOpenAI
from sqlalchemy.ext.asyncio import create_async_engine

sizes, runs, input = json.loads(os.environ["SIZES"]), int(os.environ["RUNS"]), os.environ["INPUT"]
set_tracing_disabled(disabled=True)


async def main() -> dict[str, list[float]]:
    """Fill the sessions through the SDK, and run."""
    agent = Agent(name="t", model=OpenAIChatCompletionsModel(model="rules", openai_client=AsyncOpenAI(max_retries=0)))
    engine = create_async_engine(os.environ["DATABASE"])
    sessions = {}
    for size in sizes:
        print(f"a session of {size} runs", file=sys.stderr, flush=True)
        session = SQLAlchemySession(
            f"s-{size}", engine=engine, create_tables=True, session_settings=SessionSettings(limit=6)
        )
        await Runner.run(agent, input, session=session)
        items: list[Any] = await session.get_items()
        for first in range(1, size, 500):
            await session.add_items(items * min(500, size - first))
        sessions[size] = session
    times: dict[str, list[float]] = {str(size): [] for size in sizes}
    for n in range(runs + 1):  # the first warms up
        for size in sizes:
            began = time.perf_counter()
            await Runner.run(agent, input, session=sessions[size])
            if n:
                times[str(size)].append((time.perf_counter() - began) * 1000)
    await engine.dispose()
    return times


print(json.dumps(asyncio.run(main())), flush=True)
