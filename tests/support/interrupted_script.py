"""A script that is interrupted by Ctrl-C: `python -m tests.support.interrupted_script DATABASE_URL PLACE [stream]`.

PLACE: in the 'model', in a 'tool', or in an async one, 'coroutine'. It prints the status of each run of its session,
after it has executed another one.
"""

import asyncio
import json
import os
import signal
import sys
import threading
import time
from typing import Any

from worker import Calls, ScriptedModel, Team
from worker.db import Db


def interrupt() -> None:
    """Send this process what a terminal sends it at Ctrl-C, soon."""
    threading.Timer(0.2, os.kill, [os.getpid(), signal.SIGINT]).start()


def wait() -> str:
    """Wait."""
    interrupt()
    time.sleep(600)
    return ""


async def wait_for_it() -> str:
    """Wait."""
    interrupt()
    await asyncio.sleep(600)
    return ""


class SlowModel(ScriptedModel):
    """A model that waits at its first call."""

    async def reply(self, request: Any, on_delta: Any) -> Any:
        """Reply, or wait."""
        if not self.requests:
            interrupt()
            self.requests.append(request)
            await asyncio.sleep(600)
        return await super().reply(request, on_delta)


def main(url: str, place: str, *, stream: bool) -> None:
    """Execute a run that is interrupted, and another one."""
    steps = {"model": [], "tool": [Calls(("wait", {}))], "coroutine": [Calls(("wait_for_it", {}))]}[place]
    model = (SlowModel if place == "model" else ScriptedModel)([*steps, "the second"])
    team = Team(id="t", model=model, tools=[wait, wait_for_it], db=Db(url))
    try:
        for _event in team.run("first", session_id="s", stream=True) if stream else [team.run("first", session_id="s")]:
            pass
    except KeyboardInterrupt:
        answer = team.run("second", session_id="s").content
        session = team.get_session("s")
        assert session is not None
        print(json.dumps({"runs": [run.status for run in session.runs], "answer": answer}), flush=True)
    team.db.close()
    os._exit(0)  # the tool that waits is left


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], stream="stream" in sys.argv)
