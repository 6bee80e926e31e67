"""After the deploy: what older versions have written since is copied too, then the old column goes."""

from alembic import op
from worker.store.migrations.versions.next_2_fill import backfill as backfill  # type: ignore[import-not-found]  # only in the copy

from worker.store.tables import SCHEMA

revision = "next_3"
down_revision = "next_2"
branch_labels = None
depends_on = None
removes = True


def upgrade() -> None:
    op.drop_column("runs", "team_version", schema=None if op.get_bind().dialect.name == "sqlite" else SCHEMA)
