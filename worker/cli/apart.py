"""What a process does that was started for one run: see `worker/process/apart.py`."""

import signal
import threading

from worker import settings as configuration
from worker.observe import logs
from worker.process import runtime
from worker.queue.app import make_app
from worker.queue.dispatch import Dispatcher
from worker.runs.execute import execute
from worker.served import served


def execute_alone(run_id: str, team: str) -> None:
    """Execute one run; on SIGTERM hand it over."""
    settings = configuration.load()
    logs.configure(settings.log_level, style=settings.log_style)
    rooms = runtime.start(settings, Dispatcher(make_app(settings), settings), served(settings), (), apart=None)

    def hand_over(*_: object) -> None:
        threading.Thread(target=rooms.keeper.hand_over, kwargs={"grace_s": settings.handover_seconds}).start()

    signal.signal(signal.SIGTERM, hand_over)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of Ctrl-C, which reaches it too, its parent tells it
    execute(rooms, run_id, team)
    rooms.close()
