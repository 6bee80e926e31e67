"""A service that uses Celery already enqueues a run from its own plain app, without importing Team Sessions.

    SHOP_BROKER_URL=redis://… python ops/examples/enqueue_by_celery.py support "My parcel has not come." order-17

The message is as durable as the broker. Send it again with the same key when you do not know whether it arrived:
retries never create a second run. `GET /v1/runs?idempotency_key=order-17` returns the run, and the reason if it was
refused.

Only the task, its id and its arguments count. Options of Celery that start other tasks or delay this one are refused:
`link`, `link_error`, `chain`, `chord`, `countdown`, `eta`, `expires`, and compression. An order has fields of its own
for that, such as `not_before` and `timeout`.
"""

import os
import sys

from celery import Celery

app = Celery("shop", broker=os.environ.get("SHOP_BROKER_URL", "redis://127.0.0.1:6379/0"))


def enqueue_run(team: str, text: str, *, key: str, user_id: str = "", session_id: str | None = None) -> None:
    """Enqueue a run of *team*; *key* is the idempotency key."""
    order = {"team": team, "input": text, "user_id": user_id, "session_id": session_id}
    # Monitoring shows kwargsrepr in place of the arguments. They hold message text, so it is empty.
    app.send_task("runs.enqueue", kwargs=order, task_id=key, queue="enqueue", kwargsrepr="")


if __name__ == "__main__":
    team, text, key = sys.argv[1:4]
    user_id, session_id, *_ = [*sys.argv[4:], None, None]
    enqueue_run(team, text, key=key, user_id=user_id or "", session_id=session_id)
    print(f"sent: {key}")
