"""Who asks."""

from dataclasses import dataclass

from worker.errors import TeamForbidden, UserForbidden


@dataclass(frozen=True, slots=True)
class Principal:
    """An API key and what it may do.

    `user_id` None is a service key: it acts for the user that a request names, and sees every user where none is
    named. Otherwise it is that user and nobody else. `teams` empty means every team.
    """

    key_id: str
    user_id: str | None = None
    teams: frozenset[str] = frozenset()

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

    def check_team(self, team: str) -> None:
        """Raise TeamForbidden unless this principal may use *team*."""
        if self.teams and team not in self.teams:
            raise TeamForbidden(team=team)


SERVICE = Principal(key_id="")  # ourselves: every user, every team
