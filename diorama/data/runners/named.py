"""The runner that a flag names."""

from diorama.core.errors import UserError
from diorama.data.runners.local import Local
from diorama.data.runners.runner import Runner

RUNNERS = ("local", "daft", "daft-ray")


def named(name: str) -> Runner:
    """`local`, `daft` or `daft-ray`. Raises `UserError` for another name, and where the engine is not installed."""
    if name not in RUNNERS:
        raise UserError(f"there is no runner '{name}': take {', '.join(RUNNERS[:-1])} or {RUNNERS[-1]}")
    try:
        if name == "daft":
            from diorama.data.runners.daft import Daft

            return Daft()
        if name == "daft-ray":
            from diorama.data.runners.ray import DaftRay

            return DaftRay()
    except ModuleNotFoundError as missing:
        if missing.name not in ("daft", "ray"):
            raise
        extra = "daft" if name == "daft" else "ray"
        raise UserError(f'{missing.name} is not installed: pip install "diorama[{extra}]"') from None
    return Local()
