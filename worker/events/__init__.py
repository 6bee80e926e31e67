"""The events of runs for their watchers, in Redis streams.

They are short-lived and nothing depends on them: the database is the truth.

Each key expires some time after its last entry (its team's setting, else `TEAM_SESSIONS_STREAM_SECONDS`):

    <prefix>run:<run id>:events    stream; entry id <fence>-<n>, fields type and data (JSON)
    <prefix>run:<run id>:slot      text: the model for one of whose slots the run waits; for seconds
"""


def stream_key(prefix: str, run_id: str) -> str:
    """Return the key of a run's stream."""
    return f"{prefix}run:{run_id}:events"


def slot_key(prefix: str, run_id: str) -> str:
    """Return the key of the model for one of whose slots a run waits."""
    return f"{prefix}run:{run_id}:slot"
