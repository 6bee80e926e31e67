"""The checks of `team-sessions doctor`: one file for each part of an installation, one function for each check.

A check yields findings: a sentence, a stable code and, unless all is well, what to do. What drivers and servers answer
is recognised where their libraries are allowed: `store/database_probe.py`, `events/broker_probe.py`, `models/probe.py`.
"""

from worker.cli.checks import broker, configured, database, directory, endpoints, model, waiting, workers
from worker.cli.checks.examine import Check

# In the order of the report. A check that needs the database is skipped if the database does not answer.
CHECKS = (
    Check("settings", configured.settings),
    Check("teams", configured.teams),
    Check("data directory", directory.check),
    Check("database", database.answers),
    Check("writing", database.writes, needs="database"),
    Check("broker", broker.check),
    Check("workers", workers.check, needs="database"),
    Check("runs", waiting.runs, needs="database"),
    Check("summaries", waiting.summaries, needs="database"),
    Check("model", model.check),
    Check("api", endpoints.api),
    Check("flower", endpoints.flower),
)
