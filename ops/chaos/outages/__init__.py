"""The outages: a store or the model is away, or refuses what it is asked, for all processes and for minutes.

Each is a block: what was broken is repaired at its end. It hits stores that were started for this test alone.
"""

from ops.chaos.outages import broker, model, postgres, sqlite
from ops.chaos.outages.registry import OUTAGES, Outage

__all__ = ["OUTAGES", "Outage", "broker", "model", "postgres", "sqlite"]
