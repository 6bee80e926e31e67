"""The small rule-based model, for scripts that name any model: OPENAI_BASE_URL points to it."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2

from tests.support.system import ROOT, wait_until
from worker.queue.embedded import free_port


@contextmanager
def model_server(*options: str) -> Iterator[str]:
    """Give the address of a model server, started with *options*, which ends with the block."""
    port = free_port()
    process = subprocess.Popen([sys.executable, str(ROOT / "ops/stub_model.py"), "--port", str(port), *options])
    url = f"http://127.0.0.1:{port}/v1"

    def answers() -> bool:
        try:
            return httpx2.get(url, timeout=60).status_code == 404
        except httpx2.TransportError:
            return False

    try:
        wait_until(answers, description="the model server answers")
        yield url
    finally:
        process.terminate()
        process.wait()
