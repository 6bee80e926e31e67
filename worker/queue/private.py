"""Tasks whose arguments nobody is shown: those of `runs.enqueue` hold message text, and Flower asks workers for all."""

from typing import Any

from celery.worker.request import Request


class PrivateRequest(Request):  # type: ignore[misc]  # celery has no types
    """A task at work that says nothing of its arguments."""

    def info(self, safe: bool = False) -> dict[str, Any]:
        """Return what `inspect active` and its like are told."""
        return {**super().info(safe), "args": [], "kwargs": {}}
