"""Models: the one that speaks Chat Completions, the scripted one for tests, and the event loop that they run on."""

from worker.domain import ChatModel, ChatRequest, Reply

__all__ = ["ChatModel", "ChatRequest", "Reply"]
