"""Pages that can go stale are made and compared; each page is found, and each command on it is typed by a test."""

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from ops.handbook.generate import HERE, PAGES
from tests.architecture.test_house import ROOT
from tests.support.typed import BESIDE_UP, FOLLOWED, NOT_TYPED
from tests.support.walk import FENCE, steps
from worker.cli.main import cli

ALL = [ROOT / "README.md", *sorted(HERE.rglob("*.md"))]
NAMES = [str(page.relative_to(ROOT)) for page in ALL]
RUN = {"console", "python", "sh", "bash"}  # what is typed, saved or run; blocks of any other kind hold none of it


@pytest.mark.parametrize("name", PAGES)
def test_a_generated_page_is_current(name: str) -> None:
    """`python -m ops.handbook.generate` was run after the last change."""
    assert (HERE / name).read_text() == PAGES[name](), "run: .venv/bin/python -m ops.handbook.generate"


def test_every_page_is_reached_from_the_index() -> None:
    """Who begins with the handbook's README finds each page; what no link leads to nobody reads."""
    found, todo = set[Path](), [HERE / "README.md"]
    while todo:
        page = todo.pop()
        if page not in found:
            found.add(page)
            todo += [target for target, _ in links(page) if target.suffix == ".md" and target.is_relative_to(HERE)]

    assert {str(page.relative_to(HERE)) for page in HERE.rglob("*.md") if page not in found} == set()


@pytest.mark.parametrize("page", ALL, ids=NAMES)
def test_every_link_leads_somewhere(page: Path) -> None:
    """To a file that is there, and to a heading that it has."""
    lost = [
        f"{target}#{anchor}"
        for target, anchor in links(page)
        if not target.exists() or (anchor and anchor not in anchors(target))
    ]

    assert lost == []


@pytest.mark.parametrize("page", ALL, ids=NAMES)
def test_every_command_of_a_page_is_typed_by_a_test(page: Path) -> None:
    """The test that FOLLOWED names goes through the whole page, so that what is added to it is typed too."""
    name = str(page.relative_to(ROOT))
    blocks = FENCE.findall(page.read_text())
    typed = {kind for kind, _ in blocks} & RUN
    assert [text for kind, text in blocks if kind not in RUN and re.search(r"^\$ ", text, re.MULTILINE)] == [], (
        "commands stand in ```console blocks"
    )

    if not typed:
        assert name not in FOLLOWED
        return
    assert name in FOLLOWED, f"{name} shows commands: have a test in tests/guide follow it, and name that in FOLLOWED"
    source = (ROOT / FOLLOWED[name]).read_text()
    if "def test_every_command_of_the_page_is_followed_below" in source:
        assert f'PAGE = "{page.name}"' in source
        assert typed == {"sh"}, "its test goes through the blocks of ```sh, by their headings"
    elif "BLOCK.findall(PAGE)" in source:
        assert f'"ops/handbook/{page.name}"' in source
        assert typed == {"python"}, "its test executes the blocks of ```python"
    else:
        assert ".follow(" in source
        assert page.name in source or FOLLOWED[name] == BESIDE_UP
        assert "bash" not in typed, "the reader of pages types ```console and ```sh"


def test_what_is_not_typed_says_why_and_is_still_shown() -> None:
    """The list of exceptions holds nothing that no page shows any more."""
    shown = {step.text for page in ALL for step in steps(page)}

    assert set(NOT_TYPED) <= shown
    assert all(len(reason) > 20 for reason in NOT_TYPED.values())


@pytest.mark.parametrize("page", ALL, ids=NAMES)
def test_a_command_in_a_sentence_exists_with_its_options(page: Path) -> None:
    """`team-sessions …` in the middle of a text names a command, and only options that it has."""
    text = FENCE.sub("", page.read_text())
    wrong = [spelled for spelled in re.findall(r"`((?:team-sessions|NEW|OLD) [^`]+)`", text) if not exists(spelled)]

    assert wrong == []


def exists(spelled: str) -> bool:
    """Tell whether the command line has this command and these options."""
    command: click.Command = cli
    context = click.Context(cli)
    words = re.findall(r'"[^"]*"|\S+', spelled)[1:]
    for word in words:
        child = command.get_command(context, word) if isinstance(command, click.Group) else None
        if child is not None:
            command = child
        elif isinstance(command, click.Group) and not word.startswith("-") and not word.isupper():
            return word == "…"
        elif word.startswith("--"):
            known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
            if word.partition("=")[0] not in known:
                return False
    return True


def links(page: Path) -> Iterator[tuple[Path, str]]:
    """Yield the files that a page links to, each with the heading that is meant."""
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)", FENCE.sub("", page.read_text())):
        if "://" not in target:
            yield ((page.parent / target).resolve() if target else page), anchor


def anchors(page: Path) -> set[str]:
    """Return the names under which the headings of a page are linked."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}
