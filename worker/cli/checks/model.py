"""The models: whether each server that teams ask answers, and takes the key. Nothing of it costs anything."""

from collections.abc import Iterable, Iterator

from worker.cli.checks.configured import importable
from worker.cli.checks.finding import Case, Finding, failed, ok, warning
from worker.errors import TeamSessionsError
from worker.loop.definition import Definition
from worker.models.default import default_model
from worker.models.openai_chat import OpenAIChat
from worker.models.probe import Answered, ProbeResult, probe

MOST = 5  # servers that are asked

ADVICE = {
    Answered.NO_KEY: "Set OPENAI_API_KEY; for a server that wants none, set it to any word.",
    Answered.KEY_REFUSED: "Correct OPENAI_API_KEY, or api_key of the team's model.",
    Answered.WRONG_ADDRESS: "Correct OPENAI_BASE_URL: it mostly ends with /v1, as in https://api.openai.com/v1.",
    Answered.NO_CREDIT: "Pay for more, or use another key.",
    Answered.FAILING: "See the provider's status. Runs wait and are tried again meanwhile.",
    Answered.SILENT: "See whether the server at OPENAI_BASE_URL is frozen or overloaded.",
    Answered.AWAY: "Start the server, correct OPENAI_BASE_URL, or let this machine reach it.",
    Answered.NOT_LISTED: "Correct TEAM_SESSIONS_MODEL, or id of the team's model, unless it is known under that name.",
}
SAID = {
    Answered.NO_KEY: "there is no key for its server",
    Answered.KEY_REFUSED: "its server refuses the key ({status})",
    Answered.WRONG_ADDRESS: "what answers at its address is no server of models ({status})",
    Answered.NO_CREDIT: "its server says that the credit is used up (429)",
    Answered.FAILING: "its server fails ({status})",
    Answered.SILENT: "its server does not answer",
    Answered.AWAY: "its server cannot be reached",
    Answered.NOT_LISTED: "its server takes the key, and does not list this model",
}


def look(case: Case) -> Iterator[Finding]:
    """Every server that a team would ask, once for each model."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "TEAM_SESSIONS_MODEL"):
        if mistaken := case.mistaken(name):
            yield mistaken
            return
    models = _models(case)
    for model in models[:MOST]:
        yield _told(model, probe(model))
    if not models:
        yield ok("The teams bring models of their own, which are not asked.")


def _models(case: Case) -> list[OpenAIChat]:
    """Return the models of the teams, or the default one where these cannot be imported."""
    default = default_model(case.settings)
    try:
        teams: Iterable[Definition] = importable(case.settings).values()
    except TeamSessionsError:
        return [default]
    found = [model for team in teams for model in _of(team, default)]
    return list({(model.base_url, model.api_key, model.id): model for model in found}.values())


def _of(team: Definition, default: OpenAIChat) -> Iterator[OpenAIChat]:
    for model in (team.model or default, team.session_summary_manager.model):
        if isinstance(model, OpenAIChat):
            yield model
    for member in team.members:
        yield from _of(member, default)


def _told(model: OpenAIChat, reached: ProbeResult) -> Finding:
    how = reached.answered
    if how is Answered.LISTED:
        return ok(f"{model.id!r}: its server takes the key, and lists the model.")
    if how is Answered.NO_LIST:
        return ok(f"{model.id!r}: its server answers. It has no list of models to look it up in.")
    detail = f"{model.id!r}: {SAID[how].format(status=reached.status or 'no HTTP')}."
    passing = how is Answered.NOT_LISTED or (reached.status == 429 and how is Answered.FAILING)
    finding = warning if passing else failed
    return finding(f"model_{how}", detail, ADVICE[how])
