"""A service that speaks Celery already enqueues a run: a plain app of its own, which knows nothing of Team Sessions.

    SHOP_BROKER_URL=redis://… python ops/examples/enqueue_by_celery.py support "My parcel has not come." order-17

The order is as durable as the broker that it goes through. Send it again with the same key whenever it is not sure that
it arrived: one run comes of it. `GET /v1/runs?idempotency_key=order-17` finds the run, and says why if it was refused.
"""

import os
import sys

from celery import Celery

app = Celery("shop", broker=os.environ.get("SHOP_BROKER_URL", "redis://127.0.0.1:6379/0"))


def enqueue_run(team: str, text: str, *, key: str, user_id: str = "", session_id: str | None = None) -> None:
    """Order a run of *team*; *key* is the idempotency key."""
    order = {"team": team, "input": text, "user_id": user_id, "session_id": session_id}
    # kwargsrepr is what monitoring is shown of the arguments: they hold the user's words, so nothing.
    app.send_task("runs.enqueue", kwargs=order, task_id=key, queue="enqueue", kwargsrepr="")


if __name__ == "__main__":
    team, text, key, *place = sys.argv[1:]
    enqueue_run(team, text, key=key, **dict(zip(("user_id", "session_id"), place, strict=False)))
    print(f"sent: {key}")
