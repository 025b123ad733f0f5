"""Errors meant for the person at the keyboard."""

import traceback
from pathlib import Path


class UserError(Exception):
    """What was wrong, where, and what to do, in one sentence; the command line prints it without a traceback."""


def fault(path: Path, error: BaseException) -> UserError:
    """What is wrong with a user's own Python file, and in which of its lines. A `UserError` stays as it is."""
    if isinstance(error, UserError):
        return error
    calls = traceback.extract_tb(error.__traceback__)
    frames = [call.lineno for call in calls if Path(call.filename) == path.resolve()]
    line, said = frames[-1] if frames else None, str(error)
    if isinstance(error, SyntaxError):
        line = line or error.lineno  # else that of the file which this one takes in
        said = f"{error.msg}{f': {error.text.strip()}' if error.text else ''}"
    return UserError(f"{path}{f', line {line}' if line else ''}: {type(error).__name__}: {said}")
