"""What clips look like as vectors, and what is learned from those: derived stages over `preview.images`, and a rule.

`PretrainedText` is no stage: it gives the vectors of words that `diorama.data.captions.Agreement` compares with those.

    Curation(
        stages=(Preview(),),
        derived=(SelfSupervised(), Clusters(), Score("judgements.csv")),
        rules=(Drop("dull", (Where("score.value", below=0.2),)), SemanticDuplicates(cosine=0.95)),
    )

Names are imported when they are first used: only the encoders need JAX.
"""

from typing import TYPE_CHECKING

from diorama.core.lazy import lazy

if TYPE_CHECKING:
    from diorama.data.embed.clusters import Clusters
    from diorama.data.embed.encoder import SelfSupervised
    from diorama.data.embed.onnx import Onnx
    from diorama.data.embed.pretrained import Pretrained
    from diorama.data.embed.pretrained_text import PretrainedText
    from diorama.data.embed.score import Score
    from diorama.data.embed.semantic import SemanticDuplicates

__getattr__ = lazy(
    __name__,
    {
        "clusters": ("Clusters",),
        "onnx": ("Onnx",),
        "pretrained": ("Pretrained",),
        "pretrained_text": ("PretrainedText",),
        "score": ("Score",),
        "encoder": ("SelfSupervised",),
        "semantic": ("SemanticDuplicates",),
    },
)

__all__ = ["Clusters", "Onnx", "Pretrained", "PretrainedText", "Score", "SelfSupervised", "SemanticDuplicates"]
