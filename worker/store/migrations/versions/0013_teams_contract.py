"""Adds which options of runs a worker understands. Older workers write none of it: they understand no option.

Not in 0012: a transaction that locks two tables can deadlock with processes that read both.
"""

import sqlalchemy as sa
from alembic import op

from worker.store.tables import SCHEMA

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    where = None if op.get_bind().dialect.name == "sqlite" else SCHEMA
    op.add_column("teams", sa.Column("contract", sa.Integer, nullable=False, server_default="0"), schema=where)
