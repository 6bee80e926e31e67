"""Celery: the app, its queues, and the sending of run ids to them. The queue only notifies; the database decides."""
