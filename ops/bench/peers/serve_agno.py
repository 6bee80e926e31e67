"""AgentOS with its durable queue, as its documentation shows it, on loopback at PORT.

https://docs.agno.com/agent-os/background-execution/durable-queue
"""

import os

from agno.os import AgentOS, QueueConfig
from product import team

served = team()
queue = QueueConfig(durable=True, max_concurrency=8, max_queue_depth=1000, max_attempts=1)
agent_os = AgentOS(teams=[served], db=served.db, queue=queue, telemetry=False)
agent_os.serve(app=agent_os.get_app(), host="127.0.0.1", port=int(os.environ["PORT"]))
