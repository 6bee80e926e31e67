"""Models: the one that speaks Chat Completions, the scripted one for tests, and the event loop that they run on."""
