"""Draw what was measured beside the peers, as PNG and SVG: a bar for each, as long as ours is better, or worse.

matplotlib draws, in an environment of its own.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from ops.bench.peers import environment
from ops.bench.report import Ratio


def plot(ratios: Sequence[Ratio], directory: Path, *, title: str) -> list[Path]:
    """Draw *ratios* into `beside.png` and `beside.svg` of a directory, and return both."""
    directory.mkdir(parents=True, exist_ok=True)
    files = [directory.absolute() / f"beside.{kind}" for kind in ("png", "svg")]
    drawn = {"title": title, "files": [str(file) for file in files], "ratios": [asdict(ratio) for ratio in ratios]}
    environment.run(environment.python("matplotlib"), "draw.py", environment={"DRAWN": json.dumps(drawn)})
    return files
