"""The HTTP door: thin. It validates, asks the rooms of `worker`, and answers."""
