"""One module per resource. A route declares what it needs, calls `worker`, and shapes the answer."""
