"""What Alembic runs first. The connection, inside a transaction, comes from `worker.store.migrate`."""

from alembic import context

from worker.store.migrate import version_table
from worker.store.tables import metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    transactional_ddl=False,  # the transaction is the caller's
    **version_table(connection),
)
context.run_migrations()
