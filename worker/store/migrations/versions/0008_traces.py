"""The place of a run in a trace."""

import sqlalchemy as sa
from alembic import op

from worker.store.tables import SCHEMA

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    where = None if op.get_bind().dialect.name == "sqlite" else SCHEMA
    op.add_column("runs", sa.Column("traceparent", sa.String(length=55), nullable=True), schema=where)
