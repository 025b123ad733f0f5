"""The command line: one thin file a command, gathered in `main.py`. Everything heavy is imported inside commands."""
