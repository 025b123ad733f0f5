"""Errors meant for the person at the keyboard."""


class UserError(Exception):
    """What was wrong, where, and what to do, in one sentence; the command line prints it without a traceback."""
