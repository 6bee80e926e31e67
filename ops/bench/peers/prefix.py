"""Talk in one session: every tenth input needs a tool, each answer has 60 words. The model server notes contexts."""

import os
import sys

from product import team


def look_up() -> str:
    """Look something up."""
    return "Nothing special was found, but it took a while to look for it. " * 5


runs = {"num_history_runs": int(os.environ["HISTORY_RUNS"])} if os.environ.get("HISTORY_RUNS") else {}
assistant = team(
    summary_model=os.environ["SUMMARY_MODEL"],
    tools=[look_up],
    instructions="You help somebody with their garden.",
    **({"num_history_runs": None} | runs),
)
for n in range(1, int(os.environ["RUNS"]) + 1):
    print(f"run {n}", file=sys.stderr, flush=True)
    need = "[steps=1] " if n % 10 == 0 else ""
    assistant.run(f"{need}[words=60] Question {n}. " + "Tell me something about my garden. " * 8, session_id="s")
print("null", flush=True)
