"""What `team-sessions doctor` looks at: one file for each part of an installation, one small function for each check.

A check yields findings: a sentence about what it found and, where that is not well, what to do. The rooms below say how
their parts stand (`store/condition.py`, `store/overdue.py`, `events/broker.py`, `models/reach.py`); here it is told.
"""

from worker.cli.checks import broker, configured, database, directory, doors, model, waiting, workers
from worker.cli.checks.examine import Check

# In the order in which they are told. What needs the database is not asked where that does not answer.
CHECKS = (
    Check("settings", configured.settings),
    Check("teams", configured.teams),
    Check("data directory", directory.look),
    Check("database", database.answers),
    Check("writing", database.writes, needs="database"),
    Check("broker", broker.look),
    Check("workers", workers.look, needs="database"),
    Check("runs", waiting.runs, needs="database"),
    Check("summaries", waiting.summaries, needs="database"),
    Check("model", model.look),
    Check("api", doors.api),
    Check("flower", doors.flower),
)
