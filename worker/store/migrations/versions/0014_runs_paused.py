"""Adds since when and how long a run was paused, and whether its output is JSON. Older processes write none of it.

For them a paused run is a queued one whose time has not come. The indexes for background runs and for those
that wait for their time replace two that they still use.
"""

import sqlalchemy as sa
from alembic import op

from worker.store.columns import UtcTime
from worker.store.tables import SCHEMA

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    where = None if op.get_bind().dialect.name == "sqlite" else SCHEMA
    op.add_column("runs", sa.Column("output_is_json", sa.Boolean), schema=where)
    op.add_column("runs", sa.Column("paused_at", UtcTime), schema=where)
    op.add_column("runs", sa.Column("paused_s", sa.Float, nullable=False, server_default="0"), schema=where)
    background = "status = 'queued' AND priority = 'background' AND paused_at IS NULL"
    later = "status = 'queued' AND not_before IS NOT NULL AND paused_at IS NULL"
    for name, column, condition in (
        ("due", "not_before", later),
        ("background_due", "created_at", background),
        ("paused", "id", "paused_at IS NOT NULL"),
    ):
        rows = sa.text(condition)
        op.create_index(f"ix_runs_{name}", "runs", [column], schema=where, postgresql_where=rows, sqlite_where=rows)
