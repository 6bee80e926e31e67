"""Walk through a page as its reader does: type each command, save or run each program, compare what it prints.

A step is a line of a ```console block that begins with `$ ` (what stands below is what it prints), a ```sh block, or a
```python block: one that begins with `# name.py` is saved under that name, any other is run (a ```text block behind it
is what it prints). In what a page shows, `…` stands for anything, in a line or as lines of its own, and an id that is
cut short, such as run_01a2…, stands for the id that is printed there, in later commands too.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.support.shell import SERVES, Shell
from tests.support.system import ROOT
from tests.support.typed import NOT_TYPED

PAUSED = 3  # the exit code of `batches --watch` for a batch that waits for an approval
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROGRESS = re.compile(r"^(?:created|running|paused|completed)(?:: \d+ items found|  \d+%).*\n", re.MULTILINE)
ID = re.compile(r"\b(?:run|batch)_[0-9a-f]*…")
NUMBER = re.compile(r"\d[\d.,:]*")


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do, and the lines that the page shows of it; None: it shows none."""

    kind: str
    text: str
    expected: str | None


def steps(page: Path) -> list[Step]:
    """Return what a page asks its reader to do, in its order."""
    steps_: list[Step] = []
    blocks = [(match[1], match[2]) for match in FENCE.finditer(page.read_text())]
    for n, (kind, block) in enumerate(blocks):
        if kind == "console":
            for command in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
                typed, _, output = command.replace("\\\n", "").partition("\n")
                steps_.append(Step("command", re.sub(r" +# .*", "", typed), output or None))
        elif kind == "sh":
            if SERVES.search(block):
                steps_ += [Step("command", line, None) for line in block.splitlines()]
            else:
                steps_.append(Step("script", block, None))
        elif kind == "python":
            after = blocks[n + 1] if n + 1 < len(blocks) else ("", "")
            name = re.match(r"# (\w+\.py)\n", block)
            steps_.append(Step(name[1] if name else "program", block, after[1] if after[0] == "text" else None))
    return steps_


class Walk:
    """A reader with a terminal in *directory*, where the repository's `ops` and `.venv` are.

    *replace*: regular expressions and what is typed and expected instead, for what is fixed on a page and free in a
    test, such as ports. *before*: what to wait for before a command that matches is typed, as a reader does. *exact*:
    numbers must be those of the page, and lines of progress stand where it has them; else they are looked past.
    """

    def __init__(
        self,
        directory: Path,
        *,
        environment: Mapping[str, str] | None = None,
        replace: Mapping[str, str] | None = None,
        before: Mapping[str, Callable[[], object]] | None = None,
        exact: bool = True,
    ) -> None:
        self._replace, self._before, self._exact = replace or {}, before or {}, exact
        self.directory = directory
        self.ids: dict[str, str] = {}
        self.shell = Shell(directory, environment or {})

    def follow(self, page: Path) -> None:
        """Do all that stands on a page, but for NOT_TYPED."""
        todo = [step for step in steps(page) if step.text not in NOT_TYPED]
        for n, step in enumerate(todo):
            asks_for_code = n + 1 < len(todo) and todo[n + 1].text == "echo $?"
            self._do(step, where=f"{page.name}: {step.text.splitlines()[0]}", may_fail=asks_for_code)

    def _do(self, step: Step, *, where: str, may_fail: bool) -> None:
        if step.kind.endswith(".py"):
            (self.directory / step.kind).write_text(step.text)
            return
        command = self._typed(step.text)
        if step.kind == "script":  # whichever of its commands fails, and not only the last
            command = f"(set -eu\n{command})"
        elif step.kind == "program":
            (self.directory / "example.py").write_text(step.text)
            command = "python example.py"
        for pattern, wait in self._before.items():
            if re.search(pattern, step.text):
                wait()
        printed, code = self.shell.type(command)
        refused = step.expected is not None and step.expected.startswith("Error: ")
        may_fail |= code == PAUSED and "is paused" in printed
        assert (code != 0) == refused or may_fail, f"{where}: exit code {code}\n{printed}"
        if step.expected is not None:
            expected = self._replaced(step.expected)
            if not self._exact:
                expected, printed = PROGRESS.sub("", expected), PROGRESS.sub("", printed)
            match = re.fullmatch(self._pattern(expected), _trimmed(printed))
            assert match, f"{where}\n--- the page shows\n{expected}\n--- what came\n{printed}"
            for placeholder, group in self._new(expected).items():
                self.ids[placeholder] = match[group]

    def _typed(self, command: str) -> str:
        return self._replaced(ID.sub(lambda match: self.ids.get(match[0], match[0]), command))

    def _replaced(self, text: str) -> str:
        for pattern, instead in self._replace.items():
            text = re.sub(pattern, instead, text, flags=re.MULTILINE)
        return text

    def _new(self, expected: str) -> dict[str, str]:
        """Return the groups under which ids that are shown for the first time are found."""
        new = dict.fromkeys(placeholder for placeholder in ID.findall(expected) if placeholder not in self.ids)
        return {placeholder: f"id{n}" for n, placeholder in enumerate(new)}

    def _pattern(self, expected: str) -> str:
        new, seen = self._new(expected), set[str]()

        def pattern_of(part: str) -> str:
            if part in new and part not in seen:
                seen.add(part)
                return rf"(?P<{new[part]}>{part.split('_')[0]}_\w+)"
            if part in new:
                return f"(?P={new[part]})"
            if part in self.ids:
                return re.escape(self.ids[part])
            if part in ("…", " …"):
                return ".*"
            if not self._exact and NUMBER.fullmatch(part) and part != expected.strip():  # an exit code is what it is
                return NUMBER.pattern
            return re.escape(part) if self._exact else re.sub(r"(\\ )+", " +", re.escape(part))

        parts = re.compile(rf"({ID.pattern}|{NUMBER.pattern}| ?…)")
        lines = [
            r"(?:.*\n)*?" if line == "…" else "".join(map(pattern_of, parts.split(line))) + r"\n"
            for line in _trimmed(expected).splitlines()
        ]
        return "".join(lines)

    def close(self) -> None:
        """Close the terminal, and end what was started in it."""
        self.shell.close()


def _trimmed(text: str) -> str:
    return "".join(line.rstrip() + "\n" for line in text.strip("\n").splitlines())


def reader(directory: Path, **options: object) -> Walk:
    """Return a reader in a copy of the repository: new files go beside its `ops` and `.venv`, and not into it."""
    directory.mkdir(exist_ok=True)
    (directory / "ops").symlink_to(ROOT / "ops")
    (directory / "pyproject.toml").symlink_to(ROOT / "pyproject.toml")
    return Walk(directory, **options)  # type: ignore[arg-type]  # as they are
