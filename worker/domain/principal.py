"""API keys, and what they may do."""

from dataclasses import dataclass
from enum import StrEnum

from worker.errors import ScopeMissing, TeamForbidden, UserForbidden


class Scope(StrEnum):
    """One thing that a key may do, for its user and its teams."""

    RUNS_WRITE = "runs:write"  # enqueue, cancel
    RUNS_READ = "runs:read"
    SESSIONS_READ = "sessions:read"  # with their messages and runs
    SESSIONS_WRITE = "sessions:write"  # change, delete
    BATCHES = "batches"  # their results need runs:read too
    APPROVALS = "approvals"  # decide about calls that only an operator decides about
    ADMIN = "admin"  # all of these, and what is done to a whole installation


NOT_BY_DEFAULT = frozenset({Scope.APPROVALS, Scope.ADMIN})  # what a key has only if it was made with it


@dataclass(frozen=True, slots=True)
class Principal:
    """An API key and what it may do.

    `user_id` None is a service key: it acts for the user that a request names, else it sees every user. Empty `teams`
    mean every team, empty `scopes` every scope but `approvals` and `admin`.
    """

    key_id: str
    user_id: str | None = None
    teams: frozenset[str] = frozenset()
    scopes: frozenset[str] = frozenset()

    def acting_for(self, user_id: str | None) -> str | None:
        """Return the user that a read is limited to; None is every user.

        Raises:
            UserForbidden: a user's key named another user.
        """
        if self.user_id is None:
            return user_id
        if user_id not in (None, self.user_id):
            raise UserForbidden()
        return self.user_id

    def may_use(self, team: str) -> bool:
        """Tell whether this principal may use *team*."""
        return not self.teams or team in self.teams

    def check_team(self, team: str) -> None:
        """Raise TeamForbidden unless this principal may use *team*."""
        if not self.may_use(team):
            raise TeamForbidden(team=team)

    def has_scope(self, scope: Scope) -> bool:
        """Tell whether this principal has *scope*."""
        if scope is Scope.APPROVALS and self.user_id is not None:
            return False
        return not self.scopes.isdisjoint((scope, Scope.ADMIN)) or not (self.scopes or scope in NOT_BY_DEFAULT)

    def check_scope(self, scope: Scope) -> None:
        """Raise ScopeMissing unless this principal has *scope*."""
        if not self.has_scope(scope):
            raise ScopeMissing(scope=scope.value)


SERVICE = Principal(key_id="")  # ourselves: every user, every team
