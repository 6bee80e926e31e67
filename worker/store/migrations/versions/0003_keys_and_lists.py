"""Scopes of keys."""

import sqlalchemy as sa
from alembic import op

from worker.store.tables import SCHEMA

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    add_column("api_keys", sa.Column("scopes", sa.JSON(), nullable=False, server_default="[]"))


def add_column(table: str, column: sa.Column[object]) -> None:
    """Add a column. ALTER is the one statement in which the engine does not leave our schema out on SQLite."""
    op.add_column(table, column, schema=None if op.get_bind().dialect.name == "sqlite" else SCHEMA)
