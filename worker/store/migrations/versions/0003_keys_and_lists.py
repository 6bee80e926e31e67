"""Scopes of keys, and what lists of runs and sessions are read from."""

import sqlalchemy as sa
from alembic import op

from worker.store.tables import SCHEMA

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    add_column("api_keys", sa.Column("scopes", sa.JSON(), nullable=False, server_default="[]"))
    for name in ("user_id", "team_id"):
        add_column("runs", sa.Column(name, sa.String(length=255), nullable=False, server_default=""))
    take_over_from_sessions()
    op.create_index("ix_runs_of_user", "runs", ["user_id", "id"], schema=SCHEMA)
    op.create_index("ix_runs_of_team", "runs", ["team_id", "id"], schema=SCHEMA)
    op.create_index("ix_runs_of_status", "runs", ["status", "id"], schema=SCHEMA)
    op.create_index("ix_sessions_session_id", "sessions", ["session_id"], schema=SCHEMA)
    op.create_index("ix_sessions_active", "sessions", ["updated_at", "pk"], schema=SCHEMA)
    op.create_index("ix_sessions_active_of_user", "sessions", ["user_id", "updated_at", "pk"], schema=SCHEMA)
    op.create_index("ix_idempotency_key", "idempotency", ["key"], schema=SCHEMA)
    op.create_index("ix_idempotency_run_id", "idempotency", ["run_id"], schema=SCHEMA)


def add_column(table: str, column: sa.Column[object]) -> None:
    """Add a column. ALTER is the one statement in which the engine does not leave our schema out on SQLite."""
    op.add_column(table, column, schema=None if op.get_bind().dialect.name == "sqlite" else SCHEMA)


def take_over_from_sessions() -> None:
    """Give each run the user and the team of its session."""
    known, copied = sa.MetaData(schema=SCHEMA), ("user_id", "team_id")
    sessions = sa.Table("sessions", known, sa.Column("pk"), *map(sa.Column, copied))
    runs = sa.Table("runs", known, sa.Column("session_pk"), *map(sa.Column, copied))
    of_session = {name: sa.select(sessions.c[name]).where(sessions.c.pk == runs.c.session_pk) for name in copied}
    op.execute(sa.update(runs).values({name: value.scalar_subquery() for name, value in of_session.items()}))
