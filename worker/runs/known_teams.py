"""Which teams may be named: those that some worker has announced."""

from worker.errors import UnknownTeam
from worker.store import Database, teams


class KnownTeams:
    """The announced teams that this process has met. A team stays known, so each is read once."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._known: set[str] = set()

    def check(self, team: str) -> None:
        """Raise UnknownTeam unless some worker has announced *team*."""
        if team in self._known:
            return
        with self._db.read() as tx:
            if not teams.is_known(tx, team):
                raise UnknownTeam(team=team)
        self._known.add(team)
