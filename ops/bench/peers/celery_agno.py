"""A plain Celery task around Agno's Team.run: what people write today. Started by `celery -A celery_agno worker`.

As Celery's documentation advises: the prefork pool with a process a core, a database connection that is opened in each
process and not before the fork, no results, which nothing reads. The rest is Celery's and Agno's defaults.
"""

import os
from typing import Any

import product
from celery import Celery
from celery.signals import worker_process_init, worker_ready

app = Celery("plain", broker=os.environ["BROKER"])
app.conf.task_ignore_result = True
teams: list[Any] = []


@worker_process_init.connect
def open_database(**_: Any) -> None:
    """Make the team, and with it the connections of this process."""
    teams.append(product.team())


@worker_ready.connect
def say_so(**_: Any) -> None:
    """Tell who waits for it; Celery says nothing by default."""
    print("at work", flush=True)


@app.task(name="run_team")
def run_team(input: str, session_id: str) -> None:
    """Execute one run."""
    teams[0].run(input, session_id=session_id)
