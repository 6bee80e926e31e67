"""A script that forks after its first run: `python -m tests.support.forking_script DATABASE_URL`.

Parent and child then execute runs at the same time. Each prints one line of JSON about its own.
"""

import asyncio
import json
import os
import sys
from typing import Any

from worker import Calls, ScriptedModel, Team
from worker.db import Db

RUNS = 20


async def greet(who: str) -> str:
    """Greet."""
    await asyncio.sleep(0)
    return f"hello {who}"


def execute(team: Team, who: str) -> dict[str, Any]:
    """Execute runs, and return what is wrong with their answers."""
    model = team.definition.model
    assert isinstance(model, ScriptedModel)
    wrong = []
    for n in range(RUNS):
        output = team.run(f"{who} {n}", session_id=f"{who}-{n}", user_id=who)
        texts = [m.content for m in output.messages]
        if texts != [f"{who} {n}", "", f"hello {who} {n}", f"done {who} {n}"]:
            wrong.append(texts)
    return {"who": who, "wrong": wrong}


def answer(request: Any) -> Any:
    """Call the tool, then answer."""
    who = next(m.content for m in request.messages if m.role == "user")
    done = request.messages[-1].role == "tool"
    return f"done {who}" if done else Calls(("greet", {"who": who}))


def main(url: str) -> None:
    """Run, fork, and run in both."""
    team = Team(id="t", model=ScriptedModel([answer] * 1_000), tools=[greet], db=Db(url))
    execute(team, "before")
    child = os.fork()
    print(json.dumps(execute(team, "child" if child == 0 else "parent")), flush=True)
    if child == 0:
        team.db.close()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status == 0, status
    execute(team, "after")


if __name__ == "__main__":
    main(sys.argv[1])
