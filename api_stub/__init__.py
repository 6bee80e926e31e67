"""The HTTP API. It validates requests, calls `worker`, and answers."""
