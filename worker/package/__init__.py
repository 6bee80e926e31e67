"""Team Sessions: durable, queue-backed sessions with teams of LLM agents.

To define teams: `from team_sessions import Team, OpenAIChat, tool`. Programs that only enqueue runs use
`from team_sessions.client import Client`. It is also the program: `team-sessions`, `python -m team_sessions`.

This package is installed as `team_sessions`. What it exports is in the packages `worker` and `api_stub`, which many
projects have, too: a `worker.py` in the working directory, a package in PYTHONPATH. So ours are imported from where
they are installed, and never from elsewhere.
"""

import importlib
import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from worker import *
    from worker import __all__ as __all__


def _import_packages() -> None:
    beside = Path(__file__).parent.parent
    of_checkout = (Path(entry) for entry in sys.path if (Path(entry) / "worker/package/__init__.py").is_file())
    is_beside = (beside / "worker").is_dir() and (beside / "api_stub").is_dir()
    where = beside if is_beside else next(of_checkout, beside)  # an editable install has a copy of this package alone
    for name in ("worker", "api_stub"):
        spec = None if name in sys.modules else PathFinder.find_spec(name, [str(where)])
        if spec is not None and spec.loader is not None:
            sys.modules[name] = module_from_spec(spec)
            spec.loader.exec_module(sys.modules[name])


_import_packages()


def __getattr__(name: str) -> object:
    worker = importlib.import_module("worker")
    if name != "__all__" and name not in worker.__all__:
        raise AttributeError(f"module 'team_sessions' has no attribute {name!r}")
    return getattr(worker, name)


def __dir__() -> list[str]:
    return [*importlib.import_module("worker").__all__, "client", "errors", "main"]


def main() -> None:
    """Run the command line."""
    importlib.import_module("worker.cli.main").main()
