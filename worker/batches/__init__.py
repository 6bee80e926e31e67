"""Batches: one order over many sessions or runs, fed to the workers a window at a time."""
