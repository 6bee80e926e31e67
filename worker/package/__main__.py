"""The program, by its path or as `python -m team_sessions`. By its path no directory is searched for the package."""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path


def _package() -> None:
    """Import the package beside this file under its name."""
    where = Path(__file__).parent
    spec = spec_from_file_location("team_sessions", where / "__init__.py", submodule_search_locations=[str(where)])
    assert spec is not None
    assert spec.loader is not None
    sys.modules["team_sessions"] = module_from_spec(spec)
    spec.loader.exec_module(sys.modules["team_sessions"])


if __name__ == "__main__":
    if "team_sessions" not in sys.modules:
        _package()
    sys.modules["team_sessions"].main()
