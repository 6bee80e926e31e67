"""The life of a run. Read `execute.py` first."""
