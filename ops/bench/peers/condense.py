"""Fill a session with runs; at each number of runs in SIZES, a run makes a summary. The model server counts."""

import json
import os
import sys

from product import team

off, on = team(), team(summary_model=os.environ["SUMMARY_MODEL"])
sizes = json.loads(os.environ["SIZES"])
for n in range(1, sizes[-1] + 1):
    print(f"run {n}", file=sys.stderr, flush=True)
    (on if n in sizes else off).run(os.environ["INPUT"], session_id="s")
print(json.dumps(sizes), flush=True)
