from pathlib import Path

from tests.support.system import system
from tests.support.valkey import ValkeyServer


def test_a_run_goes_from_request_to_answer(tmp_path: Path, database_url: str, valkey: ValkeyServer) -> None:
    with system(tmp_path, database_url=database_url, redis_url=valkey.url) as running:
        running.start_worker()
        with running.start_api() as client:
            run = client.enqueue("with-tool", "[steps=2] go", session_id="s", user_id="u")
            done = client.run(run["id"], wait_s=20)

            assert done["status"] == "completed"
            assert [m["role"] for m in client.messages("s", user_id="u")] == [
                "user",
                "assistant",
                "tool",
                "assistant",
                "tool",
                "assistant",
            ]
