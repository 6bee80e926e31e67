"""The demo: two users talk with one team, each in their own session; the session of a third user is summarised.

It runs `team-sessions up` on free ports and in a temporary directory, plays the conversations over HTTP, checks that
each user was answered from their own history, and the third from a summary that was made after the runs; and stops.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from team_sessions.client import Client

from worker.queue.embedded import free_port

ROOT = Path(__file__).parent.parent
TALKS = {
    "user1": ("session1", "Hello, I am Ada.", "How are you? What is my name?", "Ada"),
    "user2": ("session2", "Hi, I am Grace.", "What's up? What is my name?", "Grace"),
}
START_S = 90.0
SUMMARY_S = 30.0


def main() -> None:
    """Play it. The exit code is 0 if every answer came from the right history."""
    parser = argparse.ArgumentParser(prog="ops/demo", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--keep", action="store_true", help="leave everything running until Ctrl-C")
    options = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _interrupted)
    processes: list[subprocess.Popen[bytes]] = []
    with tempfile.TemporaryDirectory(prefix="team-sessions-demo-") as directory:
        try:
            ok = _demo(Path(directory), processes, keep=options.keep)
        except KeyboardInterrupt:
            ok = options.keep
        finally:
            for process in reversed(processes):
                process.terminate()
                process.wait()
    print("Stopped.")
    sys.exit(0 if ok else 1)


def _demo(directory: Path, processes: list[subprocess.Popen[bytes]], *, keep: bool) -> bool:
    environment = dict(os.environ)
    if environment.get("OPENAI_API_KEY"):
        model = environment.get("TEAM_SESSIONS_MODEL", "gpt-5-mini")
        print(f"Model: {model!r}, with your OPENAI_API_KEY.")
    else:
        port = free_port()
        environment |= {"OPENAI_BASE_URL": f"http://127.0.0.1:{port}/v1", "OPENAI_API_KEY": "none"}
        processes.append(
            subprocess.Popen([sys.executable, ROOT / "ops/stub_model.py", "--port", str(port), "--pace", "0.04"])
        )
        print("Model: a small one that follows rules (set OPENAI_API_KEY to talk to a real one).")
    api_port, flower_port = free_port(), free_port()
    url = f"http://127.0.0.1:{api_port}"
    up = [str(Path(sys.executable).with_name("team-sessions")), "up", "--data-dir", str(directory / "data")]
    ports = ["--port", str(api_port), "--flower-port", str(flower_port)]
    print("Starting broker, three workers, API and Flower …", flush=True)
    with (directory / "up.log").open("wb") as log:
        environment |= {"TEAM_SESSIONS_TEAMS": "ops.examples.demo_teams", "PYTHONPATH": str(ROOT)}
        processes.append(subprocess.Popen([*up, *ports], env=environment, stdout=log, stderr=log))
    if not _wait_until_ready(directory / "up.log", processes[-1]):
        print((directory / "up.log").read_text(errors="replace")[-4000:], file=sys.stderr)
        print("It did not start; the lines above say why.", file=sys.stderr)
        return False

    key_file, login_file = directory / "data/api-key", directory / "data/flower-login"
    with Client(url, key_file.read_text().strip()) as client:
        ok = _converse(client) & _condense(client)
    if keep:
        print(f"\nAPI     {url}")
        print(f'        curl -H "Authorization: Bearer $(cat {key_file})" {url}/v1/sessions/session1/messages')
        print(f"Flower  http://127.0.0.1:{flower_port}   login in {login_file}")
        print("Everything keeps running; Ctrl-C stops it.", flush=True)
        processes[-1].wait()
    else:
        print("\n'ops/demo --keep' leaves everything running, to look at it over HTTP and in Flower.")
    return ok


def _converse(client: Client) -> bool:
    """Both conversations go on side by side; each second question can only be answered from the first."""
    answers: dict[str, str] = {}
    for turn in (1, 2):
        for user, talk in TALKS.items():
            answers[user] = _say(client, user, talk[0], talk[turn])
    print()
    ok = True
    for user, (session, *_inputs, name) in TALKS.items():
        others = [talk[3] for other, talk in TALKS.items() if other != user]
        right = name in answers[user] and not any(other in answers[user] for other in others)
        count = sum(1 for _ in client.messages(session, user_id=user))
        verdict = f"knows {name}, and not {others[0]}" if right else f"should know {name} only, and does NOT"
        print(f"{user}: {count} messages in {session}; the second answer {verdict}.")
        ok &= right
    return ok


def _condense(client: Client) -> bool:
    """A session grows until a summary of it is due; then a question can be answered from that alone."""
    user, session = "user3", "session3"
    for text in ("Hello, I am Alan.", "How are you?", "What's up?"):
        _say(client, user, session, text, team="condensed")
    print(f"\n{user}: the session has 6 messages, so its summary is due; no run waits for it …", flush=True)
    deadline = time.monotonic() + SUMMARY_S
    while (summary := client.session(session, user_id=user)["summary"]) is None and time.monotonic() < deadline:
        time.sleep(0.1)
    if summary is None:
        print(f"  no summary within {SUMMARY_S:g} s.")
        return False
    text = client.summary(session, user_id=user)["text"]
    print(f"  summary, version {summary['version']}, of messages 1 to {summary['covers_through_seq']}: {text}")
    answer = _say(client, user, session, "What is my name?", team="condensed")
    print(
        f"\n{user}: the answer {'comes' if 'Alan' in answer else 'should come, and does NOT come,'} from the summary."
    )
    return "Alan" in answer


def _say(client: Client, user: str, session: str, text: str, *, team: str = "team") -> str:
    """Enqueue one run and print its answer as it appears."""
    print(f"\n{user} in {session}: {text}")
    run = client.enqueue(team, text, session_id=session, user_id=user)
    print(f"  {team}: ", end="", flush=True)
    for event in client.stream(run["id"]):
        if event.type == "message.delta":
            print(event.data["delta"], end="", flush=True)
    finished = client.run(run["id"])
    print()
    if finished["status"] != "completed":
        print(f"  run {run['id']} is {finished['status']}: {finished['error']}")
    return str(finished["output"] or "")


def _wait_until_ready(log: Path, process: subprocess.Popen[bytes]) -> bool:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        if log.read_text(errors="replace").find("\nReady.") >= 0 or log.read_text().startswith("Ready."):
            return True
        time.sleep(0.1)
    return False


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
