"""`Agent`: a model with its own role, instructions and tools."""

from typing import ClassVar, Unpack

from worker import agno_names
from worker.options import Options, take
from worker.runnable import Runnable


class Agent(Runnable):
    """A member of a team, or a team of its own without members: it runs, and is served, in the same way.

    Leaders delegate to it by its `id`, and read its `role`. `help(Agent)` lists the options.

    Raises:
        DefinitionInvalid: it names every mistake.
    """

    def __init__(self, **options: Unpack[Options]) -> None:
        super().__init__("agent", options)

    ACCEPTED: ClassVar = agno_names.accepted("agent")  # names of Agno that it takes besides its options
    take(__init__, Options)
