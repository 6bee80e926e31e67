"""The house: imports point down, files stay small, and nothing names what must not be named."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
CEILING = 350  # lines; a file that passes it has two ideas
OVER: dict[str, int] = {}  # offenders by name, with their lines: a list that may only shrink


def tracked(*patterns: str) -> list[Path]:
    """Return the files of the repository that match."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "-co", "--exclude-standard", *patterns], cwd=ROOT, capture_output=True, check=True
    )
    return [ROOT / name for name in listed.stdout.decode().split("\0") if name and (ROOT / name).is_file()]


def test_imports_point_down_and_each_library_has_one_owner() -> None:
    """The import contract in `pyproject.toml` is kept."""
    lint = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]

    done = subprocess.run(lint, cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout[-3000:]


def test_no_file_has_two_ideas() -> None:
    """No Python file is longer than the ceiling."""
    lengths = {str(p.relative_to(ROOT)): len(p.read_text().splitlines()) for p in tracked("*.py")}

    assert {name: n for name, n in lengths.items() if n > OVER.get(name, CEILING)} == {}


def test_the_lock_files_pin_every_package_with_its_hashes_and_name_no_address() -> None:
    """What is installed is what was tested, from whichever registry."""
    for lock in tracked("ops/*.lock"):
        text = lock.read_text()
        packages = re.split(r"\n(?=[a-z0-9])", text)
        assert len(packages) > (30 if "requirements" in lock.name else 1)
        assert all("==" in p and "--hash=sha256:" in p for p in packages)
        assert "://" not in text


def test_every_dependency_is_explained() -> None:
    """`ops/handbook/dependencies.md` has a line for each package that `pyproject.toml` names."""
    names = re.findall(r'^    "([a-z0-9_-]+)(?:\[|[><=])', (ROOT / "pyproject.toml").read_text(), flags=re.MULTILINE)
    explained = (ROOT / "ops/handbook/dependencies.md").read_text()

    assert len(names) > 15
    assert [name for name in names if f"`{name}`" not in explained] == []


def test_nothing_pickles() -> None:
    """JSON only: no module of the product imports pickle, and Celery is told so."""
    sources = {p: p.read_text() for p in tracked("worker/*.py", "api_stub/*.py")}
    imports = re.compile(r"^\s*(import|from) (pickle|dill|shelve|marshal)", re.MULTILINE)

    assert [str(p) for p, text in sources.items() if imports.search(text)] == []
    assert 'accept_content=["json"]' in sources[ROOT / "worker/queue/app.py"]
