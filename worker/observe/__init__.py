"""What operators see: logs now; no message text in any of it."""
