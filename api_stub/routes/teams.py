"""Teams that can be used."""

from fastapi import APIRouter

from api_stub import dependencies as deps
from api_stub import errors, schemas
from worker.store import teams

router = APIRouter(prefix="/v1/teams", tags=["teams"])


@router.get("", responses=errors.responses(422))
def list_teams(service: deps.ServiceDep, principal: deps.AnyScope) -> schemas.TeamPage:
    """The teams that live workers serve and that the key may use. Any key will do."""
    with service.db.read() as tx:
        live = teams.live(tx)
    data = [
        schemas.Team(team=team.id, versions=team.versions, workers=team.workers, queues=team.queues)
        for team in live
        if principal.may_use(team.id)
    ]
    return schemas.TeamPage(data=data, next_cursor=None)
