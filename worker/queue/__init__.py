"""Celery: the app, its queues, and the sending of run ids to them. The queue is a bell; the database is the truth."""
