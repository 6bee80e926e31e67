"""How the broker is connected to."""

import ssl

import pytest

from worker import settings
from worker.queue.app import make_app


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("rediss://broker:6379", {"ssl_cert_reqs": ssl.CERT_REQUIRED}),
        ("rediss://broker:6379?ssl_cert_reqs=none", {"ssl_cert_reqs": ssl.CERT_NONE}),
        ("redis://broker:6379", False),
    ],
)
def test_certificates_are_checked_unless_the_url_says_otherwise(
    url: str, wanted: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEAM_SESSIONS_REDIS_URL", url)

    connection = make_app(settings.load()).connection_for_write()

    assert (connection.ssl or False) == wanted
