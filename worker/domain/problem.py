"""Known problems of the parts of an installation: how each is recognised, what is wrong, and what to do about it.

For `team-sessions doctor`. Each part has one table of them, where its library may be imported:
`store/database_probe.py`, `events/broker_probe.py`, `models/probe.py`.
"""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One known problem. Its error is an instance of *errors* and, if there are *signs*, its text contains one of them.

    `code` is stable. Signs are in lower case. *lasting*: waiting does not mend it, so a process does not start.
    """

    code: str
    sentence: str
    advice: str
    errors: tuple[type[BaseException], ...] = (BaseException,)
    signs: tuple[str, ...] = ()
    lasting: bool = False


def recognise(problems: Iterable[Problem], error: BaseException, text: str) -> Problem | None:
    """Return the first problem that fits an error with this *text*, or None."""
    lower = text.lower()
    for problem in problems:
        if isinstance(error, problem.errors) and (not problem.signs or any(sign in lower for sign in problem.signs)):
            return problem
    return None
