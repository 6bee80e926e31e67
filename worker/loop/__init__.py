"""The agent loop: context → model → tools → … → answer. Pure: it knows messages and protocols, and no SQL, Redis,
Celery or openai. What it has done is in the messages written so far, and so is what it will do next."""
