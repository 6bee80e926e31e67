"""What an order can say of its run beside its input: priority, timeout; and what a waiting run waits for."""

import sqlalchemy as sa
from alembic import op

from worker.store.tables import SCHEMA

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    where = None if op.get_bind().dialect.name == "sqlite" else SCHEMA
    op.add_column("runs", sa.Column("waits_for", sa.String(length=64), nullable=True), schema=where)
    priority = sa.Column("priority", sa.String(length=16), nullable=False, server_default="interactive")
    op.add_column("runs", priority, schema=where)
    op.add_column("runs", sa.Column("timeout_s", sa.Float(), nullable=True), schema=where)
    queued = sa.text("status = 'queued'")
    op.create_index("ix_runs_queued", "runs", ["user_id"], schema=where, postgresql_where=queued, sqlite_where=queued)
    background = sa.text("status = 'queued' AND priority = 'background'")
    op.create_index(
        "ix_runs_background",
        "runs",
        ["created_at"],
        schema=where,
        postgresql_where=background,
        sqlite_where=background,
    )
