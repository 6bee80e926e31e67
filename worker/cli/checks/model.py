"""The models: whether each server that teams use answers and accepts the key. The requests cost nothing."""

from collections.abc import Iterable, Iterator

from worker.cli.checks.configured import importable
from worker.cli.checks.finding import CLIENT, Finding, Installation, failed, ok, warning
from worker.errors import TeamSessionsError
from worker.loop.definition import Definition
from worker.models.openai_chat import OpenAIChat, default_model
from worker.models.probe import NOT_LISTED, ProbeResult, probe

MAX_SERVERS = 5


def check(installation: Installation) -> Iterator[Finding]:
    """Check every model that a team would call, each once."""
    if mistaken := installation.mistaken("OPENAI_API_KEY", "OPENAI_BASE_URL", "TEAM_SESSIONS_MODEL"):
        yield mistaken
        return
    if installation.is_client:
        yield CLIENT
        return
    models = _models(installation)
    for model in models[:MAX_SERVERS]:
        yield _finding(model, probe(model))
    if not models:
        yield ok("The teams bring models of their own, which are not checked.")


def _models(installation: Installation) -> list[OpenAIChat]:
    """Return the models of the teams, or the default model if the teams cannot be imported."""
    default = default_model(installation.settings)
    try:
        teams: Iterable[Definition] = importable(installation.settings).values()
    except TeamSessionsError:
        return [default]
    models = [model for team in teams for model in _models_of(team, default)]
    return list({(model.base_url, model.api_key, model.id): model for model in models}.values())


def _models_of(team: Definition, default: OpenAIChat) -> Iterator[OpenAIChat]:
    for model in (team.model or default, team.session_summary_manager.model):
        if isinstance(model, OpenAIChat):
            yield model
    for member in team.members:
        yield from _models_of(member, default)


def _finding(model: OpenAIChat, result: ProbeResult) -> Finding:
    problem = result.problem
    if problem is None:
        works = "accepts the key, and lists the model" if result.listed else "answers. It has no list of models"
        return ok(f"{model.id!r}: its server {works}.")
    detail = f"{model.id!r}: {problem.sentence.format(status=result.status or 'no HTTP')}."
    harmless = problem is NOT_LISTED or (result.status == 429 and problem.code == "model_failing")
    return (warning if harmless else failed)(problem.code, detail, problem.advice)
