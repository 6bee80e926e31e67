"""Adds what a caller asks of one run beyond its input, and which workers understand it.

Older processes write neither: such runs have no options, and need nothing.
"""

import sqlalchemy as sa
from alembic import op

from worker.store.tables import SCHEMA

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    where = None if op.get_bind().dialect.name == "sqlite" else SCHEMA
    op.add_column("runs", sa.Column("options", sa.JSON(none_as_null=True)), schema=where)
    op.add_column("runs", sa.Column("needs", sa.Integer, nullable=False, server_default="0"), schema=where)
