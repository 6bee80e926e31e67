"""Send a task for each (session, input) of INPUTS, and print when the first was sent and how long all took."""

import json
import os
import time
from pathlib import Path

from celery_agno import run_team

inputs = json.loads(Path(os.environ["INPUTS"]).read_text())
run_team.delay(inputs[0][1], inputs[0][0])  # opens the connection
time.sleep(float(os.environ["WARM_S"]))
began = time.time()
for session, input in inputs[1:]:
    run_team.delay(input, session)
print(json.dumps([began, time.time() - began]), flush=True)
