"""A program that prints random texts as answers in pieces, and writes the texts to a file, as a JSON list.

python -m tests.cli.random_texts FILE
"""

import json
import random
import sys
from pathlib import Path

from api_stub.client import Event
from worker.cli.answer import Answer
from worker.cli.terminal import guard
from worker.controls import CODES

COUNT = 400
SINGLE = [code for code in CODES if not 0xDC00 <= code < 0xE000]  # JSON would join two halves of a character
SEQUENCES = [
    "\x1b[31m",
    "\x1b]0;t\x07",
    "\x1b]8;;u\x1b\\",
    "\x9b2J",
    "\x1bP",
    "\x1b[6n",
    "\r",
    "\n",
    "\t",
    "\x1b[?1049h",
]


def text(random: random.Random) -> str:
    """Return a text of letters, of whole sequences and of single characters, from anywhere in Unicode."""
    makers = [
        lambda: random.choice("abc äß 日本 עב 🦉👩\u200d👧"),
        lambda: random.choice(SEQUENCES),
        lambda: chr(random.choice(SINGLE)),
        lambda: chr(random.randrange(0xE000, sys.maxunicode + 1)),
    ]
    return "".join(random.choice(makers)() for _ in range(random.randrange(40)))


def events(random: random.Random, content: str) -> list[Event]:
    """Return an answer, cut anywhere."""
    cuts = sorted(random.randrange(len(content) + 1) for _ in range(random.randrange(5)))
    pieces = [content[a:b] for a, b in zip([0, *cuts], [*cuts, len(content)], strict=True)]
    message = {"message_id": "1", "author": "t", "delegation": None}
    return [
        *(Event("1-1", "message.delta", {**message, "delta": piece}) for piece in pieces),
        Event("1-2", "message.completed", {**message, "role": "assistant", "content": content}),
        Event("1-3", "run.completed", {"id": "r", "status": "completed"}),
    ]


if __name__ == "__main__":
    guard()
    seed = random.Random(7)
    texts = [text(seed) for _ in range(COUNT)]
    Path(sys.argv[1]).write_text(json.dumps(texts))
    for each in texts:
        Answer().show(events(seed, each))
