"""How long `Team.run` takes with summaries and without, in turn: milliseconds of each, in a session for either."""

import json
import os
import sys
import time

from product import team

RUNS, WARM_UP = int(os.environ["RUNS"]), 5

teams = {"off": team(), "on": team(summary_model=os.environ["SUMMARY_MODEL"])}
times: dict[str, list[float]] = {name: [] for name in teams}
for n in range(RUNS + WARM_UP):
    print(f"run {n}", file=sys.stderr, flush=True)
    for name, current in teams.items():
        began = time.perf_counter()
        current.run("Hello.", session_id=name)
        if n >= WARM_UP:
            times[name].append((time.perf_counter() - began) * 1000)
print(json.dumps(times), flush=True)
