"""A database's schema as sorted lines, read from its own catalogue: what two ways of making it are compared by."""

import re

from sqlalchemy import text

from worker.store import Database, Transaction
from worker.store.tables import SCHEMA

_COLUMNS = """
    SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, pg_get_expr(d.adbin, d.adrelid)
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
    LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE c.relnamespace = (:schema)::regnamespace AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped
"""
_CONSTRAINTS = """
    SELECT c.relname, o.conname, pg_get_constraintdef(o.oid)
    FROM pg_constraint o JOIN pg_class c ON c.oid = o.conrelid
    WHERE o.connamespace = (:schema)::regnamespace AND o.contype <> 'n'
"""  # 'n': Postgres 18 has NOT NULL there too; it is in the columns


def describe(db: Database) -> list[str]:
    """Return a line for each column, constraint and index, aside from those of Alembic and SQLite."""
    with db.read() as tx:
        lines = _sqlite(tx) if db.is_sqlite else _postgres(tx)
    return sorted(line for line in lines if not line.startswith(("schema_version", "sqlite_sequence")))


def _postgres(tx: Transaction) -> list[str]:
    schema = {"schema": SCHEMA}
    lines = [
        f"{table}.{column}: {kind}{' NOT NULL' * required}{f' DEFAULT {default}' if default else ''}"
        for table, column, kind, required, default in tx.execute(text(_COLUMNS), schema)
    ]
    lines += [f"{table} {name}: {rule}" for table, name, rule in tx.execute(text(_CONSTRAINTS), schema)]
    indexes = tx.execute(text("SELECT tablename, indexdef FROM pg_indexes WHERE schemaname = :schema"), schema)
    return lines + [f"{table} {statement}" for table, statement in indexes]


def _sqlite(tx: Transaction) -> list[str]:
    lines = []
    made = tx.execute(text("SELECT type, tbl_name, sql FROM sqlite_master WHERE sql IS NOT NULL")).all()
    for kind, table, statement in made:
        if kind == "index":
            lines.append(f"{table} {statement}")
            continue
        for column in tx.execute(text(f"PRAGMA table_info({table})")):
            default = "" if column.dflt_value is None else f" DEFAULT {column.dflt_value}"
            lines.append(f"{table}.{column.name}: {column.type}{' NOT NULL' * column.notnull}{default}")
        rules = re.findall(r"CONSTRAINT (\w+) (.*?)(?:,? *\n|$)", statement)
        lines += [f"{table} {name}: {rule}" for name, rule in rules]
        lines += [f"{table}: AUTOINCREMENT"] * ("AUTOINCREMENT" in statement)
    return lines
