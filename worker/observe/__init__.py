"""What operators see: logs, metrics and traces. None of them holds message text."""
