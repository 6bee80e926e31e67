"""What runs tell those who watch, carried by Redis streams.

Ephemeral: nothing depends on it, the database is the truth.

Keys, each with a lifetime (after its last entry: its team's, else `TEAM_SESSIONS_STREAM_SECONDS`):

    <prefix>run:<run id>:events    stream; entry id <fence>-<n>, fields type and data (JSON)
"""


def stream_key(prefix: str, run_id: str) -> str:
    """Return the key of a run's stream."""
    return f"{prefix}run:{run_id}:events"
