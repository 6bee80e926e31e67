"""How long teams keep things, as workers announce it; and the indexes by which is found what has reached its end."""

import sqlalchemy as sa
from alembic import op

from worker.store.tables import SCHEMA

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    where = None if op.get_bind().dialect.name == "sqlite" else SCHEMA
    op.add_column("teams", sa.Column("retention", sa.JSON(none_as_null=True), nullable=True), schema=where)
    by_activity = ["team_id", "updated_at", "pk"]
    add_index("ix_sessions_idle", "sessions", by_activity, "forked_from IS NULL AND head_run_id IS NULL")
    add_index("ix_runs_ended", "runs", ["team_id", "finished_at", "id"], "finished_at IS NOT NULL")
    add_index("ix_runs_replay_of", "runs", ["replay_of"], "replay_of IS NOT NULL")
    add_index("ix_batch_items_about", "batch_items", ["session_pk"], "ended_at IS NULL AND session_pk IS NOT NULL")
    add_index("ix_batch_items_made", "batch_items", ["run_id"], "ended_at IS NULL AND run_id IS NOT NULL")


def add_index(name: str, table: str, columns: list[str], condition: str) -> None:
    """Add an index of the rows that meet a condition."""
    where = None if op.get_bind().dialect.name == "sqlite" else SCHEMA
    only = sa.text(condition)
    op.create_index(name, table, columns, schema=where, postgresql_where=only, sqlite_where=only)
