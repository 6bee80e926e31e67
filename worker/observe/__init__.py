"""What operators see: logs, metrics, traces; no message text in any of it."""
