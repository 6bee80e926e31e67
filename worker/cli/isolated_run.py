"""The main function of a process that was started for one run: see `worker/process/isolated.py`."""

import signal
import threading

from worker import settings as configuration
from worker.observe import logs
from worker.observe.outcomes import delivery
from worker.process.runtime import start as start_runtime
from worker.queue.app import make_app
from worker.queue.dispatch import Dispatcher
from worker.runs.execute import execute
from worker.team_module import enter_lifespan, load_teams


def execute_alone(run_id: str, team: str) -> None:
    """Execute one run; on SIGTERM hand it over."""
    settings = configuration.load()
    logs.configure_from(settings)
    runtime = start_runtime(settings, Dispatcher(make_app(settings)), load_teams(settings), (), isolated=None)
    enter_lifespan(settings, runtime.user_loop)
    assert runtime.liveness is not None
    runtime.liveness.start(on_ended=runtime.sweep.now)  # it keeps its lock; no sweep runs here

    def hand_over(*_: object) -> None:
        threading.Thread(target=runtime.keeper.hand_over, kwargs={"grace_s": settings.handover_seconds}).start()

    signal.signal(signal.SIGTERM, hand_over)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches this process too; its parent handles it
    with delivery("attempt ended", run_id=run_id, team=team) as ended:
        ended(execute(runtime, run_id, team))
    runtime.close()
