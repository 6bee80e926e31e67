"""Adds the calls of tools that somebody decides about. Older processes know none."""

import sqlalchemy as sa
from alembic import op

from worker.store.columns import JsonOf, UtcTime
from worker.store.tables import SCHEMA

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    is_sqlite = op.get_bind().dialect.name == "sqlite"
    where = None if is_sqlite else SCHEMA
    runs = "runs.id" if is_sqlite else f"{SCHEMA}.runs.id"
    op.create_table(
        "pending_calls",
        sa.Column("idempotency_key", sa.String(128), nullable=False),
        sa.Column("run_id", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("tool", sa.String(255), nullable=False),
        sa.Column("tool_call_id", sa.String(255), nullable=False),
        sa.Column("arguments", sa.Text, nullable=False),
        sa.Column("schema", JsonOf(dict), nullable=False),
        sa.Column("fields", JsonOf(list), nullable=False),
        sa.Column("author", sa.String(255), nullable=False),
        sa.Column("delegation", sa.String(64)),
        sa.Column("decided_by", sa.String(16), nullable=False),
        sa.Column("on_expiry", sa.String(16), nullable=False),
        sa.Column("created_at", UtcTime, nullable=False),
        sa.Column("expires_at", UtcTime),
        sa.Column("decision", sa.String(16)),
        sa.Column("answer", sa.Text),
        sa.Column("note", sa.Text),
        sa.Column("key_id", sa.String(64)),
        sa.Column("approver", sa.String(255)),
        sa.Column("decided_at", UtcTime),
        sa.PrimaryKeyConstraint("idempotency_key", name="pk_pending_calls"),
        sa.ForeignKeyConstraint(["run_id"], [runs], name="fk_pending_calls_run_id", ondelete="CASCADE"),
        schema=where,
    )
    op.create_index("ix_pending_calls_run_id", "pending_calls", ["run_id"], schema=where)
    waiting, expires = sa.text("decision IS NULL"), sa.text("decision IS NULL AND expires_at IS NOT NULL")
    for name, columns, condition in (
        ("waiting", ["created_at", "idempotency_key"], waiting),
        ("expires", ["expires_at"], expires),
    ):
        index, rows = f"ix_pending_calls_{name}", {"postgresql_where": condition, "sqlite_where": condition}
        op.create_index(index, "pending_calls", columns, schema=where, unique=False, if_not_exists=None, **rows)
