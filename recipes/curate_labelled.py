"""curate_labelled: pictures by class: embedded, captioned, checked, thinned where they are all alike, and balanced.

Command:   diorama curate SRC... --out CATALOGUE --recipe curate_labelled     (first with --dry-run)
Hardware:  two CPU cores. Learning the embedding takes about a minute, once.

It shows what a recipe holds beside thresholds; copy it, and take what you need. `stages` look at media. `derived` is
made from what they saw and from what is said of clips; rules, captions and weights ask for both as stage.column.
"""

from diorama.data import Curation, Drop, Percentile, Where
from diorama.data.balance import InverseFrequency, Quota
from diorama.data.captions import CaptionChecks, Template
from diorama.data.duplicates import NearDuplicates
from diorama.data.embed import Clusters, SelfSupervised, SemanticDuplicates
from diorama.data.stages import Preview, Signature, Technical


def recipe() -> Curation:
    """The curation."""
    return Curation(
        stages=(Technical(), Signature(), Preview()),
        derived=(
            SelfSupervised(),  # embedding.vector, and the map of `diorama look`; Pretrained("folder of CLIP") sees more
            Clusters(20),  # clusters.cluster
            # template.caption; a model's would be vlm.caption: Captions(OpenAICompatible("qwen2.5-vl"))
            Template(("a photo of a {class_name}", "a {class_name}")),
            CaptionChecks(of=("caption", "template.caption")),  # wording.word_count, wording.stock, ...
        ),
        rules=(
            Drop("no caption", (Where("wording.word_count", below=1),)),
            Drop("stock photo", (Where("wording.stock", above=0),)),
            Drop("softest", (Where("technical.sharpness", below=Percentile(2)),)),
            SemanticDuplicates(cosine=0.99),
            NearDuplicates(),
            Quota("clusters.cluster", 1000),  # pictures of one kind, at most
        ),
        caption=("caption", "template.caption"),  # where a clip has none of its own, the template's
        balance=(InverseFrequency("label"),),  # rare classes are drawn more often in training, and none is left out
    )
