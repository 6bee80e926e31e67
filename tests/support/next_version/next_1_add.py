"""Before the deploy: the new column. Older versions do not know it, so it can be null."""

import sqlalchemy as sa
from alembic import op

from worker.store.tables import SCHEMA

revision = "next_1"
down_revision = "NEWEST"
branch_labels = None
depends_on = None


def upgrade() -> None:
    where = None if op.get_bind().dialect.name == "sqlite" else SCHEMA
    op.add_column("runs", sa.Column("definition_version", sa.String(length=64), nullable=True), schema=where)
