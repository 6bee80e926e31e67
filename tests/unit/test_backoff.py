"""How long a run waits for its model before it fails."""

from collections.abc import Sequence

import pytest

from worker.errors import ModelError, ModelNoAnswer, ModelRateLimited, ModelUnavailable
from worker.runs.execute import BACKOFF
from worker.settings import Settings

OUTAGE_S = 120.0


def pauses(error: ModelError) -> Sequence[float]:
    """Return the pauses before the retries of one call, with the default settings."""
    most = Settings().model_retries
    waits = [BACKOFF.wait_s(error, failures=failures, max_failures=most) for failures in range(most + 1)]
    assert waits[-1] is None
    return [wait for wait in waits[:-1] if wait is not None]


@pytest.mark.parametrize(
    "error",
    [
        ModelUnavailable(model="m", reason="test"),
        ModelNoAnswer(model="m", reason="test"),
        ModelRateLimited(model="m", reason="test", retry_after_s=0.0),
        ModelRateLimited(model="m", reason="test", retry_after_s=1.0),
    ],
    ids=lambda error: f"{error.code} {error.retry_after_s}",
)
def test_an_outage_of_a_model_of_two_minutes_fails_no_run(error: ModelError) -> None:
    """The last retry comes after it, however often the server asks to be called again at once."""
    assert all(sum(pauses(error)) > OUTAGE_S for _ in range(100))


def test_a_model_is_asked_again_when_it_says() -> None:
    """The first wait is what it says, and no later one is shorter than that."""
    assert pauses(ModelRateLimited(model="m", reason="test", retry_after_s=0.0))[0] == 0.0
    assert set(pauses(ModelRateLimited(model="m", reason="test", retry_after_s=300.0))) == {300.0}
