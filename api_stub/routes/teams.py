"""Teams that can be used."""

from fastapi import APIRouter

from api_stub import errors, schemas
from api_stub.dependencies import AnyScope, ServiceDep
from worker.store import teams

router = APIRouter(prefix="/v1/teams", tags=["teams"])


@router.get("", responses=errors.responses())
def list_teams(service: ServiceDep, principal: AnyScope) -> schemas.TeamPage:
    """The teams that live workers serve and that the key may use. Any key will do."""
    with service.db.read() as tx:
        live = teams.live(tx)
    return schemas.TeamPage(
        data=[schemas.Team.of(team) for team in live if principal.may_use(team.id)], next_cursor=None
    )
