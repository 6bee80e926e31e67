"""The program `team-sessions`, also as `python -m team_sessions`.

Its packages are taken from beside this file. Python looks for `worker` in PYTHONPATH and in the working directory
first, and many projects have a `worker.py` of their own there.
"""

import sys
from importlib import import_module
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from pathlib import Path


def _import_packages() -> None:
    beside = [str(Path(__file__).parent)]
    for name in ("worker", "api_stub"):
        spec = None if name in sys.modules else PathFinder.find_spec(name, beside)
        if spec is not None and spec.loader is not None:
            sys.modules[name] = module_from_spec(spec)
            spec.loader.exec_module(sys.modules[name])


_import_packages()


def main() -> None:
    """Run the command line."""
    import_module("worker.cli.main").main()


if __name__ == "__main__":
    main()
