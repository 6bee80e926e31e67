"""Summaries of sessions: the condensed past, recomputed off the run's path."""
