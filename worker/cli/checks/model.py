"""The models: whether each server that teams ask answers, and takes the key. Nothing of it costs anything."""

from collections.abc import Iterable, Iterator

from worker.cli.checks.configured import importable
from worker.cli.checks.finding import Finding, Installation, failed, ok, warning
from worker.errors import TeamSessionsError
from worker.loop.definition import Definition
from worker.models.default import default_model
from worker.models.openai_chat import OpenAIChat
from worker.models.probe import ProbeOutcome, ProbeResult, probe

MOST = 5  # servers that are asked

ADVICE = {
    ProbeOutcome.NO_KEY: "Set OPENAI_API_KEY; for a server that wants none, set it to any word.",
    ProbeOutcome.KEY_REFUSED: "Correct OPENAI_API_KEY, or api_key of the team's model.",
    ProbeOutcome.WRONG_ADDRESS: "Correct OPENAI_BASE_URL: it mostly ends with /v1, as in https://api.openai.com/v1.",
    ProbeOutcome.NO_CREDIT: "Pay for more, or use another key.",
    ProbeOutcome.FAILING: "See the provider's status. Runs wait and are tried again meanwhile.",
    ProbeOutcome.SILENT: "See whether the server at OPENAI_BASE_URL is frozen or overloaded.",
    ProbeOutcome.AWAY: "Start the server, correct OPENAI_BASE_URL, or let this machine reach it.",
    ProbeOutcome.NOT_LISTED: (
        "Correct TEAM_SESSIONS_MODEL, or id of the team's model, unless it is known under that name."
    ),
}
SAID = {
    ProbeOutcome.NO_KEY: "there is no key for its server",
    ProbeOutcome.KEY_REFUSED: "its server refuses the key ({status})",
    ProbeOutcome.WRONG_ADDRESS: "what answers at its address is no server of models ({status})",
    ProbeOutcome.NO_CREDIT: "its server says that the credit is used up (429)",
    ProbeOutcome.FAILING: "its server fails ({status})",
    ProbeOutcome.SILENT: "its server does not answer",
    ProbeOutcome.AWAY: "its server cannot be reached",
    ProbeOutcome.NOT_LISTED: "its server takes the key, and does not list this model",
}


def look(installation: Installation) -> Iterator[Finding]:
    """Every server that a team would ask, once for each model."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "TEAM_SESSIONS_MODEL"):
        if mistaken := installation.mistaken(name):
            yield mistaken
            return
    models = _models(installation)
    for model in models[:MOST]:
        yield _told(model, probe(model))
    if not models:
        yield ok("The teams bring models of their own, which are not asked.")


def _models(installation: Installation) -> list[OpenAIChat]:
    """Return the models of the teams, or the default one where these cannot be imported."""
    default = default_model(installation.settings)
    try:
        teams: Iterable[Definition] = importable(installation.settings).values()
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


def _told(model: OpenAIChat, result: ProbeResult) -> Finding:
    how = result.outcome
    if how is ProbeOutcome.LISTED:
        return ok(f"{model.id!r}: its server takes the key, and lists the model.")
    if how is ProbeOutcome.NO_LIST:
        return ok(f"{model.id!r}: its server answers. It has no list of models to look it up in.")
    detail = f"{model.id!r}: {SAID[how].format(status=result.status or 'no HTTP')}."
    passing = how is ProbeOutcome.NOT_LISTED or (result.status == 429 and how is ProbeOutcome.FAILING)
    finding = warning if passing else failed
    return finding(f"model_{how}", detail, ADVICE[how])
