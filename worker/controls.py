"""Characters that control a terminal or the direction of a text, or that cannot be seen.

No terminal and no log gets them. Left alone are the line end and the tab, and the joiners U+200C and U+200D: emoji and
several scripts need those.
"""

import re

_RANGES = (
    (0x00, 0x08),  # C0, without tab and line end
    (0x0B, 0x1F),
    (0x7F, 0x9F),  # DEL and C1
    (0x061C, 0x061C),  # marks of direction
    (0x200B, 0x200B),  # zero-width space
    (0x200E, 0x200F),
    (0x2028, 0x202E),  # separators of lines and paragraphs, embeddings and overrides of direction
    (0x2060, 0x206F),  # invisible operators, isolates
    (0xFEFF, 0xFEFF),  # byte order mark
    (0xFFF9, 0xFFFB),  # annotations
    (0xD800, 0xDFFF),  # surrogates, which no encoding can write
    (0xE0000, 0xE007F),  # tags: a copy of ASCII that is not shown
)
CODES = tuple(code for first, last in _RANGES for code in range(first, last + 1))
PATTERN = re.compile("[" + "".join(f"{re.escape(chr(first))}-{re.escape(chr(last))}" for first, last in _RANGES) + "]")


def visible(text: str) -> str:
    """Return *text* with each of these characters replaced by U+FFFD, but without carriage returns."""
    return PATTERN.sub("\ufffd", text.replace("\r", ""))


def escaped(text: str) -> str:
    """Return *text* with each of these characters written as JSON writes it: `\\u001b`."""
    return PATTERN.sub(lambda found: escape(found[0]), text)


def escape(character: str) -> str:
    """Return one character as JSON writes it."""
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))
