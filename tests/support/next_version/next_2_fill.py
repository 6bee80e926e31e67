"""Before the deploy: what stands in the old column is copied to the new one, while both versions write."""

import sqlalchemy as sa

from worker.store import Transaction
from worker.store.tables import SCHEMA

revision = "next_2"
down_revision = "next_1"
branch_labels = None
depends_on = None

PIECE = 10  # rows that one transaction looks at and locks; thousands where it is not to be watched
NAMES = ("id", "team_version", "definition_version")


def backfill(tx: Transaction, after: str | None) -> str | None:
    """Copy what is missing in the piece behind *after*, by the primary key: each row is looked at once."""
    runs = sa.Table("runs", sa.MetaData(schema=SCHEMA), *(sa.Column(name, sa.String) for name in NAMES))
    piece = sa.select(runs.c.id).where(runs.c.id > (after or "")).order_by(runs.c.id).limit(PIECE)
    ids: list[str] = list(tx.execute(piece).scalars())
    if not ids:
        return None
    lacks = (runs.c.id.between(ids[0], ids[-1]), runs.c.definition_version.is_(None), runs.c.team_version.is_not(None))
    tx.execute(sa.update(runs).where(*lacks).values(definition_version=runs.c.team_version))
    return ids[-1]


def upgrade() -> None:
    pass
