"""Pages that can go stale are generated, and compared here."""

import pytest

from ops.handbook.generate import HERE, PAGES


@pytest.mark.parametrize("name", PAGES)
def test_a_generated_page_is_current(name: str) -> None:
    """`python -m ops.handbook.generate` was run after the last change."""
    assert (HERE / name).read_text() == PAGES[name](), "run: .venv/bin/python -m ops.handbook.generate"
