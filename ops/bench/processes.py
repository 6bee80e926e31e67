"""What a process has used so far, as its kernel counts it."""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Memory:
    """In MB: all pages that it has, and its share of them where others have them too."""

    rss: float
    pss: float


def memory(pid: int) -> Memory | None:
    """Return what a process holds now; None: it is gone."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        rss, pss = (int(rollup.split(name)[1].split()[0]) / 1024 for name in ("\nRss:", "\nPss:"))
    except (OSError, IndexError):
        return None
    return Memory(rss, pss)


def cpu_s(pid: int) -> float:
    """Return the seconds of a core that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
