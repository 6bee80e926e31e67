"""LangGraph's development server as a side: runs of one thread wait for each other (`multitask_strategy` enqueue).

It keeps everything in memory, on no database: what it is faster by is not durable. Its production server is under a
licence. How many runs have not ended is what its metrics say; that all completed is asked of each thread afterwards.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from ops.bench.beside import Door, Side
from ops.bench.peers import environment
from tests.support.model import model_server
from worker.queue.embedded import free_port

QUIET = {
    "LANGSMITH_TRACING": "false",
    "LANGGRAPH_CLI_NO_ANALYTICS": "1",
    "LANGSMITH_LANGGRAPH_API_VARIANT": "local_dev",
}


@contextmanager
def langgraph(directory: Path) -> Iterator[Side]:
    """Serve it, with files in *directory*."""
    journal, port = directory / "langgraph-journal.jsonl", free_port()
    threads: dict[str, list[str]] = defaultdict(list)  # of each round, the thread of each run

    def order(session: str, input: str) -> Door:
        thread = str(uuid5(NAMESPACE_URL, session))
        threads[session.rpartition("-")[0]].append(thread)
        body = {"assistant_id": "t", "input": {"messages": [{"role": "user", "content": input}]}}
        options = {"multitask_strategy": "enqueue", "if_not_exists": "create"}
        return f"/threads/{thread}/runs", {"Content-Type": "application/json"}, json.dumps({**body, **options}).encode()

    def counts(name: str) -> Counter[str]:
        queue = _get(port, "/metrics?format=json")["queue"]
        left = int(queue["n_pending"]) + int(queue["n_running"])
        return Counter({"running": left, "ended": len(threads[name]) - left})

    def completed(name: str) -> int:
        pages = [_get(port, f"/threads/{thread}/runs?limit=100") for thread in set(threads[name])]
        return sum(run["status"] == "success" for page in pages for run in page)

    with model_server("--journal", str(journal)) as model:
        settings = {"PORT": str(port), "OPENAI_BASE_URL": model, "OPENAI_API_KEY": "none", **QUIET}
        program, log = environment.python("langgraph-api"), directory / "langgraph.log"
        with environment.serving(program, "serve_langgraph.py", environment=settings, port=port, log=log):
            name = f"LangGraph dev {environment.version('langgraph-api')}"
            yield Side(name, port, order, {}, counts, journal, "", completed)


def _get(port: int, path: str) -> Any:
    with closing(HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request("GET", path)
        return json.loads(connection.getresponse().read())
