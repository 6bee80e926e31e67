"""AgentOS with its durable queue, as its documentation shows it, on loopback at PORT.

https://docs.agno.com/agent-os/background-execution/durable-queue

Chosen beyond that page: room for 10,000 waiting runs, and QUEUE_ATTEMPTS, where a run is to survive a crash.
"""

import os

from agno.os import AgentOS, QueueConfig
from product import team

served = team()
attempts = int(os.environ.get("QUEUE_ATTEMPTS", "1"))
queue = QueueConfig(durable=True, max_concurrency=8, max_queue_depth=10_000, max_attempts=attempts)
agent_os = AgentOS(teams=[served], db=served.db, queue=queue, telemetry=False)
agent_os.serve(app=agent_os.get_app(), host="127.0.0.1", port=int(os.environ["PORT"]))
