"""Two versions of the product, each in a directory: what a rolling deploy replaces, and by what.

The older version is a commit of this repository or the working tree. The newer one is the working tree with a
migration in two halves (`next_version/`). Both use the installed dependencies: PYTHONPATH comes before the editable
install, and `check` asserts where Python finds the packages.
"""

import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.support.system import PROGRAM, ROOT
from worker.store import migrate

# By its hash: a checkout has the history, but not always the tags. Its schema is at "0009", the first revision. When a
# migration that removes something is released, set it to the release before.
BASE = "8bc94318d08e22d42ccf3b456e35bb3d016d427f"
START = "team_sessions"  # the package: it imports the packages beside it
PARTS = ("worker", "api_stub", "tests/__init__.py", "tests/support")
OLD_NAME, NEW_NAME = "team_version", "definition_version"


@dataclass(frozen=True, slots=True)
class Version:
    """One version of the code: its name, and the directory that its packages are imported from."""

    name: str
    path: Path

    def environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """Return *base* with this version's packages before all others."""
        return {**base, "PYTHONPATH": str(self.path)}

    def check(self, base: Mapping[str, str]) -> None:
        """Assert that a program of this version imports this version."""
        command = [sys.executable, "-P", "-c", "import worker, api_stub; print(worker.__file__, api_stub.__file__)"]
        output = subprocess.run(command, env=self.environment(base), capture_output=True, text=True, check=True).stdout
        assert output.split() == [str(self.path / package / "__init__.py") for package in ("worker", "api_stub")]

    def command(self, *arguments: str, environment: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
        """Run `team-sessions` of this version with *arguments* until its end."""
        command = [*PROGRAM, *arguments]
        where = self.environment(environment)
        return subprocess.run(command, env=where, cwd=self.path, capture_output=True, text=True, check=False)

    def migrate(self, *options: str, environment: Mapping[str, str]) -> str:
        """Run `team-sessions db upgrade` of this version, and return what it says."""
        done = self.command("db", "upgrade", *options, environment=environment)
        assert done.returncode == 0, done.stderr
        return done.stdout


def this_version(_directory: Path) -> Version:
    """Return the working tree."""
    return Version("the working tree", ROOT)


def base_version(directory: Path) -> Version:
    """Return the commit BASE; in a checkout without history the working tree, and the output says so."""
    name = BASE[:12]
    if _git("cat-file", "-e", f"{BASE}^{{commit}}").returncode != 0:
        print(f"This checkout has no commit {name}: the older version is the working tree too. Use a full clone.")
        return this_version(directory)
    path = directory / name
    archived = _git("archive", "--format=tar", BASE, *PARTS)
    assert archived.returncode == 0, archived.stderr
    path.mkdir(parents=True)
    subprocess.run(["tar", "-x", "-C", str(path)], input=archived.stdout, check=True)
    _copy_start(path)
    return Version(f"commit {name}", path)


def next_version(directory: Path) -> Version:
    """Return the working tree with the migration, and with the column renamed in all code."""
    path = directory / "next"
    for part in PARTS:
        target = path / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / part, target)
    _copy_start(path)
    sources = [p for p in (path / "worker").rglob("*.py") if "migrations" not in p.parts]
    renamed = [source for source in sources if _replace(source, OLD_NAME, NEW_NAME)]
    assert len(renamed) > 1, f"no code uses {OLD_NAME}: choose another column that both versions write"
    newest = migrate.missing(None)[-1].revision
    for revision in sorted((ROOT / "tests/support/next_version").glob("next_*.py")):
        copied = path / "worker/store/migrations/versions" / revision.name
        shutil.copy(revision, copied)
        _replace(copied, '"NEWEST"', f'"{newest}"')
    return Version("the next version", path)


def _copy_start(path: Path) -> None:
    """Put the package that starts programs beside a version: else the installed program would start this version."""
    shutil.copytree(ROOT / "worker/package", path / START, ignore=shutil.ignore_patterns("__pycache__"))


def _git(*arguments: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=False)


def _replace(path: Path, old: str, new: str) -> bool:
    text = path.read_text()
    path.write_text(text.replace(old, new))
    return old in text
