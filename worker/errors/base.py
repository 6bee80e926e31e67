"""What every error has in common."""

from typing import ClassVar


class TeamSessionsError(Exception):
    """An unexpected error occurred. See the log of the process for its cause."""

    code: ClassVar[str] = "internal"  # stable, and part of the contract
    status: ClassVar[int] = 500  # of HTTP
    retry: ClassVar[bool] = False  # whether the same call can succeed later

    def __init__(self, **facts: object) -> None:
        self.facts = facts
        self.message = first_paragraph(type(self)).format(**facts)
        super().__init__(self.message)


def first_paragraph(cls: type) -> str:
    """Return the template of an error's message."""
    return " ".join((cls.__doc__ or "").split("\n\n")[0].split())
