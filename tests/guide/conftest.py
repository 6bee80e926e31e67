"""The small rule-based model, for scripts that name any model: OPENAI_BASE_URL points to it."""

import subprocess
import sys
from collections.abc import Iterator

import httpx2
import pytest

from tests.support.system import ROOT, wait_until
from worker.queue.embedded import free_port


@pytest.fixture(scope="module")
def model_server() -> Iterator[str]:
    """Start the model server and return its address."""
    port = free_port()
    process = subprocess.Popen([sys.executable, str(ROOT / "ops/stub_model.py"), "--port", str(port)])
    url = f"http://127.0.0.1:{port}/v1"

    def answers() -> bool:
        try:
            return httpx2.get(url).status_code == 404
        except httpx2.TransportError:
            return False

    wait_until(answers, description="the model server answers")
    yield url
    process.terminate()
    process.wait()


@pytest.fixture
def any_model(model_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every `OpenAIChat` of this test talks to the rule-based model."""
    monkeypatch.setenv("OPENAI_BASE_URL", model_server)
    monkeypatch.setenv("OPENAI_API_KEY", "none")
