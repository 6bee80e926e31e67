"""All SQL. One file a noun; `tables.py` is the schema on one page; `engine.py` holds the only commit.

Functions here take the transaction as their first argument, do one thing, and leave decisions to the rooms above.
Statements are accepted by SQLite and Postgres alike.
"""
