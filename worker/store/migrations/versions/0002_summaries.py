"""Summaries of sessions, and the refreshes that are wanted."""

import sqlalchemy as sa
from alembic import op

from worker.store.columns import BigKey, UtcTime
from worker.store.tables import SCHEMA

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # ALTER TABLE does not know the engine's translation of the schema, which SQLite lacks.
    where = None if op.get_bind().dialect.name == "sqlite" else SCHEMA
    for name in ("summary_version", "summary_seq", "summary_position"):
        op.add_column("sessions", sa.Column(name, sa.Integer(), nullable=False, server_default="0"), schema=where)
    behind = sa.Column("unsummarised", sa.BigInteger(), nullable=False, server_default="0")
    op.add_column("sessions", behind, schema=where)
    op.add_column("sessions", sa.Column("due_messages", sa.Integer(), nullable=True), schema=where)
    op.add_column("sessions", sa.Column("due_size", sa.BigInteger(), nullable=True), schema=where)
    op.create_table(
        "summaries",
        sa.Column("session_pk", BigKey, nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("covers_through_seq", sa.Integer(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("topics", sa.JSON(), nullable=False),
        sa.Column("model", sa.String(length=255), nullable=False),
        sa.Column("prompt_hash", sa.String(length=64), nullable=False),
        sa.Column("model_calls", sa.Integer(), nullable=False),
        sa.Column("input_tokens", sa.Integer(), nullable=False),
        sa.Column("cached_input_tokens", sa.Integer(), nullable=False),
        sa.Column("output_tokens", sa.Integer(), nullable=False),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["session_pk"], [SCHEMA + ".sessions.pk"], name="fk_summaries_session_pk", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("session_pk", "version", name="pk_summaries"),
        schema=SCHEMA,
    )
    op.create_table(
        "summary_jobs",
        sa.Column("session_pk", BigKey, nullable=False),
        sa.Column("through_seq", sa.Integer(), nullable=False),
        sa.Column("send_at", UtcTime(), nullable=True),
        sa.Column("lease_owner", sa.String(length=128), nullable=True),
        sa.Column("held_until", UtcTime(), nullable=True),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("error_code", sa.String(length=64), nullable=True),
        sa.Column("requested_at", UtcTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["session_pk"], [SCHEMA + ".sessions.pk"], name="fk_summary_jobs_session_pk", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("session_pk", name="pk_summary_jobs"),
        schema=SCHEMA,
    )
    op.create_index("ix_summary_jobs_send_at", "summary_jobs", ["send_at"], schema=SCHEMA)
