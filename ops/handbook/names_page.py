"""The part of the names page that lists what becomes of the other names of Agno, from the table in code."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from worker.agno_names import KINDS, TEAM, Name, Treated

PAGE = Path(__file__).parent / "names.md"
BEGIN = "<!-- Below: made by ops/handbook/generate.py from worker/agno_names.py. Do not edit. -->\n"
HEAD = """
## Other names of Agno

What `Team`, `Agent` and `run` do with names that they do not have themselves. An *alias* is converted. What is
*accepted* changes nothing, and is noted once in the log. What is *absent* is a mistake in the definition, with this
sentence, unless it is off. Every other name is a mistake, too: nothing is ignored silently.

"""
TABLES: tuple[tuple[str, Mapping[str, Name]], ...] = (
    ("Of `Team` and `Agent`", KINDS["agent"]),
    ("Of `Team` alone", TEAM),
    ("Of `SqliteDb` and `PostgresDb`", KINDS["db"]),
    ("Of `@tool`", KINDS["tool"]),
    ("Of `OpenAIChat`", KINDS["model"]),
    ("Of `run`, `arun` and `print_response`", KINDS["run"]),
)


def page() -> str:
    """Return the page: what is written by hand, and the lists."""
    by_hand = PAGE.read_text().partition(BEGIN)[0]
    return by_hand + BEGIN + HEAD + "\n".join(_table(title, names) for title, names in TABLES)


def _table(title: str, names: Mapping[str, Name]) -> str:
    return f"### {title}\n\n| what becomes of it | name | |\n|---|---|---|\n" + "".join(_rows(names))


def _rows(names: Mapping[str, Name]) -> Iterator[str]:
    for treated in Treated:
        by_sentence: dict[str, list[str]] = {}
        for name, entry in names.items():
            if entry.treated is treated:
                by_sentence.setdefault(entry.sentence, []).append(f"`{name}`")
        for sentence, those in by_sentence.items():
            text = f"`{sentence}`" if treated is Treated.ALIAS else sentence
            yield f"| {treated} | {', '.join(those)} | {text} |\n"
