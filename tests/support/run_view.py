"""What a watcher of a run has on the page."""

from api_stub.client import Event


class RunView:
    """What one watcher has been shown: the words of the models, by message, as a page would hold them."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.texts: dict[str, str] = {}

    @property
    def last_id(self) -> str | None:
        """The id behind which to go on."""
        return self.events[-1].id if self.events else None

    @property
    def ended(self) -> bool:
        """Whether the run's last event was shown."""
        return bool(self.events) and self.events[-1].terminal

    def take(self, event: Event) -> None:
        """Add a delta to its message; a restarted message is withdrawn, a completed one replaces its deltas."""
        self.events.append(event)
        known_as = event.data.get("message_id", "")
        if event.type == "message.delta":
            self.texts[known_as] = self.texts.get(known_as, "") + event.data["delta"]
        elif event.type == "message.restarted":
            self.texts.pop(known_as, None)
        elif event.type == "message.completed" and event.data["role"] == "assistant":
            self.texts[known_as] = event.data["content"]
