"""The model of a team that defines none."""

from worker.models.openai_chat import OpenAIChat
from worker.settings import Settings


def default_model(settings: Settings) -> OpenAIChat:
    """Return the model that TEAM_SESSIONS_MODEL names."""
    key = settings.openai_api_key.get_secret_value() if settings.openai_api_key else None
    return OpenAIChat(settings.model, api_key=key, base_url=settings.openai_base_url)
