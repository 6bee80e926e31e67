"""Enqueue a run for each (session, input) of INPUTS, and print when the first was sent and how long all took."""

import json
import os
import time
from pathlib import Path

from worker import Team

inputs = json.loads(Path(os.environ["INPUTS"]).read_text())
team = Team(id="same")
team.enqueue(inputs[0][1], session_id=inputs[0][0])  # opens the connections
time.sleep(float(os.environ["WARM_S"]))
began = time.time()
for session, input in inputs[1:]:
    team.enqueue(input, session_id=session)
print(json.dumps([began, time.time() - began]), flush=True)
