"""What a catalogue has much of, and little: weights, quotas, and clips that stand for all.

Names are imported when they are first used: a policy knows the protocol of weights, and rules know the policy's words.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diorama.data.balance.diverse import Diverse, FacilityLocation, KCentre
    from diorama.data.balance.effect import distribution, effective
    from diorama.data.balance.quota import ByHash, Highest, Lowest, Quota, Spread
    from diorama.data.balance.weights import Balance, InverseFrequency, Temperature, combined

_MODULES = {
    "diverse": ("Diverse", "FacilityLocation", "KCentre"),
    "effect": ("distribution", "effective"),
    "quota": ("ByHash", "Highest", "Lowest", "Quota", "Spread"),
    "weights": ("Balance", "InverseFrequency", "Temperature", "combined"),
}

__all__ = [
    "Balance",
    "ByHash",
    "Diverse",
    "FacilityLocation",
    "Highest",
    "InverseFrequency",
    "KCentre",
    "Lowest",
    "Quota",
    "Spread",
    "Temperature",
    "combined",
    "distribution",
    "effective",
]


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
