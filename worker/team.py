"""`Team`: a leader with its members."""

from typing import ClassVar, Unpack

from worker import agno_names
from worker.options import TeamOptions, take
from worker.runnable import Runnable


class Team(Runnable):
    """A leader with its members. Runs name the definition by its `id`. `help(Team)` lists the options.

    Names of Agno that mean something else here, or nothing, are converted, accepted, or refused with a sentence that
    says what to use instead: `ops/handbook/names.md`.

    Raises:
        DefinitionInvalid: it names every mistake.
    """

    def __init__(self, **options: Unpack[TeamOptions]) -> None:
        super().__init__("team", options)

    ACCEPTED: ClassVar = agno_names.accepted("team")  # names of Agno that it takes besides its options
    take(__init__, TeamOptions)
