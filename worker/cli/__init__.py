"""The command line: one file a command, each a thin door into a room."""
