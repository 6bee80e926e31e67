"""The first tables: sessions, runs, messages, and what enqueueing and executing runs needs."""

import sqlalchemy as sa
from alembic import op

from worker.store.columns import BigKey, UtcTime
from worker.store.tables import SCHEMA

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("secret_hash", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("user_id", sa.String(length=255), nullable=True),
        sa.Column("teams", sa.JSON(), nullable=False),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.Column("revoked_at", UtcTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
        schema=SCHEMA,
    )
    op.create_table(
        "idempotency",
        sa.Column("user_id", sa.String(length=255), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("run_id", sa.String(length=64), nullable=False),
        sa.Column("request_hash", sa.String(length=64), nullable=False),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "key", name="pk_idempotency"),
        schema=SCHEMA,
    )
    op.create_table(
        "sessions",
        sa.Column("pk", BigKey, nullable=False),
        sa.Column("user_id", sa.String(length=255), nullable=False),
        sa.Column("session_id", sa.String(length=255), nullable=False),
        sa.Column("team_id", sa.String(length=255), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("metadata", sa.JSON(), nullable=False),
        sa.Column("state", sa.JSON(), nullable=False),
        sa.Column("head_run_id", sa.String(length=64), nullable=True),
        sa.Column("run_count", sa.Integer(), nullable=False),
        sa.Column("last_seq", sa.Integer(), nullable=False),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.Column("updated_at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("pk", name="pk_sessions"),
        sa.UniqueConstraint("user_id", "session_id", name="uq_sessions_user_id_session_id"),
        schema=SCHEMA,
        sqlite_autoincrement=True,
    )
    op.create_table(
        "teams",
        sa.Column("team_id", sa.String(length=255), nullable=False),
        sa.Column("worker", sa.String(length=128), nullable=False),
        sa.Column("version", sa.String(length=64), nullable=False),
        sa.Column("queues", sa.JSON(), nullable=False),
        sa.Column("seen_at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("team_id", "worker", name="pk_teams"),
        schema=SCHEMA,
    )
    op.create_table(
        "messages",
        sa.Column("session_pk", BigKey, nullable=False),
        sa.Column("seq", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("run_id", sa.String(length=64), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("author", sa.String(length=255), nullable=False),
        sa.Column("delegation", sa.String(length=64), nullable=True),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("tool_calls", sa.JSON(), nullable=True),
        sa.Column("tool_call_id", sa.String(length=255), nullable=True),
        sa.Column("usage", sa.JSON(), nullable=True),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["session_pk"], [SCHEMA + ".sessions.pk"], name="fk_messages_session_pk", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("session_pk", "seq", name="pk_messages"),
        schema=SCHEMA,
    )
    op.create_table(
        "runs",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("session_pk", BigKey, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("input", sa.Text(), nullable=False),
        sa.Column("output", sa.Text(), nullable=True),
        sa.Column("error_code", sa.String(length=64), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("lease_owner", sa.String(length=128), nullable=True),
        sa.Column("lease_until", UtcTime(), nullable=True),
        sa.Column("losses", sa.Integer(), nullable=False),
        sa.Column("retries", sa.Integer(), nullable=False),
        sa.Column("dispatched_at", UtcTime(), nullable=True),
        sa.Column("not_before", UtcTime(), nullable=True),
        sa.Column("cancel_requested_at", UtcTime(), nullable=True),
        sa.Column("excluded", sa.Boolean(), nullable=False),
        sa.Column("retry_of", sa.String(length=64), nullable=True),
        sa.Column("team_version", sa.String(length=64), nullable=True),
        sa.Column("metadata", sa.JSON(), nullable=False),
        sa.Column("first_seq", sa.Integer(), nullable=True),
        sa.Column("last_seq", sa.Integer(), nullable=True),
        sa.Column("claimed_seq", sa.Integer(), nullable=True),
        sa.Column("model_calls", sa.Integer(), nullable=False),
        sa.Column("input_tokens", sa.Integer(), nullable=False),
        sa.Column("cached_input_tokens", sa.Integer(), nullable=False),
        sa.Column("output_tokens", sa.Integer(), nullable=False),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.Column("started_at", UtcTime(), nullable=True),
        sa.Column("finished_at", UtcTime(), nullable=True),
        sa.ForeignKeyConstraint(
            ["session_pk"], [SCHEMA + ".sessions.pk"], name="fk_runs_session_pk", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_runs"),
        sa.UniqueConstraint("session_pk", "position", name="uq_runs_session_pk_position"),
        schema=SCHEMA,
    )
    op.create_index(
        "ix_runs_dispatched",
        "runs",
        ["dispatched_at"],
        unique=False,
        schema=SCHEMA,
        postgresql_where=sa.text("status = 'queued'"),
        sqlite_where=sa.text("status = 'queued'"),
    )
    op.create_index(
        "ix_runs_resumed",
        "runs",
        ["dispatched_at"],
        unique=False,
        schema=SCHEMA,
        postgresql_where=sa.text("status = 'queued' AND attempt > 0"),
        sqlite_where=sa.text("status = 'queued' AND attempt > 0"),
    )
    op.create_index(
        "ix_runs_leased",
        "runs",
        ["lease_until"],
        unique=False,
        schema=SCHEMA,
        postgresql_where=sa.text("status = 'running'"),
        sqlite_where=sa.text("status = 'running'"),
    )
    op.create_index(
        "ix_runs_waiting",
        "runs",
        ["not_before"],
        unique=False,
        schema=SCHEMA,
        postgresql_where=sa.text("status = 'queued' AND not_before IS NOT NULL"),
        sqlite_where=sa.text("status = 'queued' AND not_before IS NOT NULL"),
    )
    op.create_table(
        "tool_starts",
        sa.Column("idempotency_key", sa.String(length=128), nullable=False),
        sa.Column("run_id", sa.String(length=64), nullable=False),
        sa.Column("started_at", UtcTime(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], [SCHEMA + ".runs.id"], name="fk_tool_starts_run_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("idempotency_key", name="pk_tool_starts"),
        schema=SCHEMA,
    )
    op.create_index("ix_tool_starts_run_id", "tool_starts", ["run_id"], unique=False, schema=SCHEMA)
