"""Batches and their items."""

import sqlalchemy as sa
from alembic import op

from worker.store.columns import UtcTime
from worker.store.tables import SCHEMA

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "batches",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("paused_by", sa.String(length=16), nullable=True),
        sa.Column("wanted", sa.JSON(), nullable=False),
        sa.Column("user_id", sa.String(length=255), nullable=True),
        sa.Column("teams", sa.Text(), nullable=False),
        sa.Column("request_key", sa.String(length=64), nullable=True),
        sa.Column("request_hash", sa.String(length=64), nullable=False),
        sa.Column("open", sa.Boolean(), nullable=False),
        sa.Column("planned_key", sa.String(length=64), nullable=True),
        sa.Column("canary", sa.Integer(), nullable=True),
        sa.Column("planned", sa.Integer(), nullable=False),
        sa.Column("fed", sa.Integer(), nullable=False),
        sa.Column("ended", sa.Integer(), nullable=False),
        sa.Column("outcomes", sa.JSON(), nullable=False),
        sa.Column("model_calls", sa.Integer(), nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cached_input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cost", sa.Float(), nullable=False),
        sa.Column("minute_at", UtcTime(), nullable=True),
        sa.Column("minute", sa.JSON(), nullable=False),
        sa.Column("pace", sa.Float(), nullable=False),
        sa.Column("paced_at", UtcTime(), nullable=True),
        sa.Column("error_code", sa.String(length=64), nullable=True),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.Column("started_at", UtcTime(), nullable=True),
        sa.Column("finished_at", UtcTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_batches"),
        sa.UniqueConstraint("request_key", name="uq_batches_request_key"),
        schema=SCHEMA,
    )
    add_index("ix_batches_unfinished", "batches", ["id"], "finished_at IS NULL")
    op.create_table(
        "batch_items",
        sa.Column("batch_id", sa.String(length=64), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("custom_id", sa.String(length=255), nullable=True),
        sa.Column("session_pk", sa.BigInteger(), nullable=True),
        sa.Column("source_run_id", sa.String(length=64), nullable=True),
        sa.Column("request", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("user_id", sa.String(length=255), nullable=True),
        sa.Column("run_id", sa.String(length=64), nullable=True),
        sa.Column("base_version", sa.Integer(), nullable=True),
        sa.Column("version", sa.Integer(), nullable=True),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("error_code", sa.String(length=64), nullable=True),
        sa.Column("fed_at", UtcTime(), nullable=True),
        sa.Column("ended_at", UtcTime(), nullable=True),
        sa.ForeignKeyConstraint(
            ["batch_id"], [f"{SCHEMA}.batches.id"], name="fk_batch_items_batch_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("batch_id", "number", name="pk_batch_items"),
        schema=SCHEMA,
    )
    item = ["batch_id", "number"]
    add_index("ix_batch_items_waiting", "batch_items", item, "fed_at IS NULL")
    add_index("ix_batch_items_in_flight", "batch_items", item, "fed_at IS NOT NULL AND ended_at IS NULL")
    add_index(
        "ix_batch_items_custom_id", "batch_items", ["batch_id", "custom_id"], "custom_id IS NOT NULL", unique=True
    )
    add_index("ix_batch_items_of_user", "batch_items", ["user_id"], "user_id IS NOT NULL")


def add_index(name: str, table: str, columns: list[str], condition: str, *, unique: bool = False) -> None:
    """Add an index of the rows that meet a condition."""
    where = None if op.get_bind().dialect.name == "sqlite" else SCHEMA
    only = sa.text(condition)
    op.create_index(name, table, columns, unique=unique, schema=where, postgresql_where=only, sqlite_where=only)
