"""Adds what a provider wants back with a reply. Older processes do not write it, so it can be null."""

import sqlalchemy as sa
from alembic import op

from worker.store.tables import SCHEMA

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    where = None if op.get_bind().dialect.name == "sqlite" else SCHEMA
    op.add_column("messages", sa.Column("extra", sa.JSON), schema=where)
