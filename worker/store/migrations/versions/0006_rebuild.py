"""Refreshes that make a summary anew from the beginning, and what they have so far."""

import sqlalchemy as sa
from alembic import op

from worker.store.tables import SCHEMA

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    where = None if op.get_bind().dialect.name == "sqlite" else SCHEMA
    no = sa.false()
    op.add_column("summary_jobs", sa.Column("rebuild", sa.Boolean(), nullable=False, server_default=no), schema=where)
    op.add_column("summary_jobs", sa.Column("draft", sa.JSON(), nullable=True), schema=where)
