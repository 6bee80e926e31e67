"""How long `Team.run` takes in sessions of these sizes: {size: [milliseconds, …]}, the sizes in turn.

The sessions are filled with copies of one run, with ids of their own, which Agno keeps a row each of.
"""

import json
import os
import sys
import time

from product import team
from sqlalchemy import create_engine, text

sizes, runs, input = json.loads(os.environ["SIZES"]), int(os.environ["RUNS"]), os.environ["INPUT"]
agno_team = team()
engine = create_engine(os.environ["DATABASE"])
for size in sizes:
    print(f"a session of {size} runs", file=sys.stderr, flush=True)
    agno_team.run(input, session_id=f"s-{size}")
    with engine.begin() as connection:
        query = "SELECT column_name FROM information_schema.columns WHERE table_name = 'agno_runs'"
        columns = connection.execute(text(query)).scalars().all()
        names = ", ".join(columns)
        values = ", ".join("run_id || '-' || n" if column == "run_id" else column for column in columns)
        rows = f"FROM ai.agno_runs, generate_series(2, {size}) n WHERE session_id = 's-{size}'"
        connection.execute(text(f"INSERT INTO ai.agno_runs ({names}) SELECT {values} {rows}"))
with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
    connection.execute(text("VACUUM ANALYZE"))
times: dict[str, list[float]] = {str(size): [] for size in sizes}
for n in range(runs + 1):  # the first warms up
    for size in sizes:
        began = time.perf_counter()
        agno_team.run(input, session_id=f"s-{size}")
        if n:
            times[str(size)].append((time.perf_counter() - began) * 1000)
print(json.dumps(times), flush=True)
