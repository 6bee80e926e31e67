"""The checks of `team-sessions doctor`: one file for each part of an installation, one function for each check.

A check yields findings: a sentence, a stable code and, unless all is well, what to do. What drivers and servers answer
is recognised where their libraries are allowed: `store/database_probe.py`, `events/broker_probe.py`, `models/probe.py`.
"""
