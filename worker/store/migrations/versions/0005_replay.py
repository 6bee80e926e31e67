"""Replays of runs, in forks of their sessions, which no list shows."""

import sqlalchemy as sa
from alembic import op

from worker.store.tables import SCHEMA

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    where = None if op.get_bind().dialect.name == "sqlite" else SCHEMA
    op.add_column("runs", sa.Column("replay_of", sa.String(length=64), nullable=True), schema=where)
    executes: sa.Column[bool] = sa.Column("execute_tools", sa.Boolean(), nullable=False, server_default=sa.false())
    op.add_column("runs", executes, schema=where)
    op.add_column("sessions", sa.Column("forked_from", sa.BigInteger(), nullable=True), schema=where)
    for name, columns in (("active", ["updated_at", "pk"]), ("active_of_user", ["user_id", "updated_at", "pk"])):
        op.drop_index(f"ix_sessions_{name}", "sessions", schema=where)
        create_index(name, columns, of="forked_from IS NULL")
    create_index("forked_from", ["forked_from"], of="forked_from IS NOT NULL")


def create_index(name: str, columns: list[str], *, of: str) -> None:
    """Create an index of some of the sessions."""
    where = None if op.get_bind().dialect.name == "sqlite" else SCHEMA
    some = sa.text(of)
    op.create_index(f"ix_sessions_{name}", "sessions", columns, schema=where, postgresql_where=some, sqlite_where=some)
