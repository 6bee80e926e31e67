"""The small rule-based model, for scripts that name any model: OPENAI_BASE_URL points to it."""

from collections.abc import Iterator

import pytest

from tests.support import model


@pytest.fixture(scope="session")  # a process keeps its connections to the address that it found first
def model_server() -> Iterator[str]:
    """Start the model server and return its address."""
    with model.model_server() as url:
        yield url


@pytest.fixture
def any_model(model_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every `OpenAIChat` of this test talks to the rule-based model."""
    monkeypatch.setenv("OPENAI_BASE_URL", model_server)
    monkeypatch.setenv("OPENAI_API_KEY", "none")
