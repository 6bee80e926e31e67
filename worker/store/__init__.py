"""All SQL. One file a noun; `tables.py` is the schema on one page; `engine.py` holds the only commit.

Functions here take the transaction as their first argument, do one thing, and leave decisions to the rooms above.
Statements are accepted by SQLite and Postgres alike.

Other rooms import its files as modules: `from worker.store import Database, Transaction, runs`.
"""

from worker.store.batch_items import PendingItem
from worker.store.batches import LockedBatch
from worker.store.engine import Database, Page, Transaction
from worker.store.leases import Lease
from worker.store.runs import RunFilters
from worker.store.summary_jobs import RefreshRequest
