"""What clips look like as vectors, and what is learned from those: derived stages over `preview.images`, and a rule.

    Curation(
        stages=(Preview(),),
        derived=(SelfSupervised(), Clusters(), Score("judgements.csv")),
        rules=(Drop("dull", (Where("score.value", below=0.2),)), SemanticDuplicates(cosine=0.95)),
    )

Names are imported when they are first used: only the encoders need JAX.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diorama.data.embed.clusters import Clusters
    from diorama.data.embed.encoder import SelfSupervised
    from diorama.data.embed.onnx import Onnx
    from diorama.data.embed.pretrained import Pretrained
    from diorama.data.embed.score import Score
    from diorama.data.embed.semantic import SemanticDuplicates

_MODULES = {
    "Clusters": "clusters",
    "Onnx": "onnx",
    "Pretrained": "pretrained",
    "Score": "score",
    "SelfSupervised": "encoder",
    "SemanticDuplicates": "semantic",
}

__all__ = ["Clusters", "Onnx", "Pretrained", "Score", "SelfSupervised", "SemanticDuplicates"]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
