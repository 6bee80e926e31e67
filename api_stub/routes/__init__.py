"""One file a noun. Each route says what it needs, calls one room, and shapes the answer."""
