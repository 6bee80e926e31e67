"""Adds why the answer of a run ended. Older processes do not write it, so it can be null.

Not in 0010: a transaction that locks two tables can deadlock with processes that read both.
"""

import sqlalchemy as sa
from alembic import op

from worker.store.tables import SCHEMA

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    where = None if op.get_bind().dialect.name == "sqlite" else SCHEMA
    op.add_column("runs", sa.Column("finish_reason", sa.String(32)), schema=where)
