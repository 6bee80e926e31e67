"""The agent loop: context → model → tools → … → answer. It uses messages and protocols, but no SQL, Redis, Celery or
openai. Its whole state is the messages written so far: they decide what it does next."""
