"""What a catalogue has much of, and little: weights, quotas, and clips that stand for all.

Names are imported when they are first used: a policy knows the protocol of weights, and rules know the policy's words.
"""

from typing import TYPE_CHECKING

from diorama.core.lazy import lazy

if TYPE_CHECKING:
    from diorama.data.balance.diverse import Diverse, FacilityLocation, KCentre
    from diorama.data.balance.effect import distribution, effective
    from diorama.data.balance.quota import ByHash, Highest, Lowest, Quota, Spread
    from diorama.data.balance.weights import Balance, InverseFrequency, Temperature, combined

__getattr__ = lazy(
    __name__,
    {
        "diverse": ("Diverse", "FacilityLocation", "KCentre"),
        "effect": ("distribution", "effective"),
        "quota": ("ByHash", "Highest", "Lowest", "Quota", "Spread"),
        "weights": ("Balance", "InverseFrequency", "Temperature", "combined"),
    },
)

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
