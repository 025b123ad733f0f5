"""curate_videos: moving shots, cut out of longer files, without technical defects and without near-duplicates.

Command:   diorama curate SRC... --out CATALOGUE --recipe curate_videos     (first with --dry-run)
Hardware:  two CPU cores; its speed is in docs/log.md.

A threshold may be a number or a Percentile. Copy this file, change them, and try them with --dry-run: what was measured
is kept, and no clip is looked at again. docs/log.md has recall and precision of each rule.
"""

from diorama.data import Curation, Drop, Where
from diorama.data.duplicates import NearDuplicates
from diorama.data.stages import Motion, Preview, Shots, Signature, Technical
from diorama.media import Limits


def recipe() -> Curation:
    """The curation."""
    return Curation(
        cut=Shots(longest=10.0),
        stages=(Technical(), Motion(), Signature(), Preview()),
        limits=Limits(seconds=1800.0, frames=60_000, timeout=600.0),
        rules=(
            Drop("short", (Where("clip.seconds", below=0.5),)),
            Drop("flat", (Where("technical.contrast", below=3.0),)),
            Drop("dark", (Where("technical.highlights", below=48.0),)),
            Drop("overexposed", (Where("technical.shadows", above=170.0),)),
            Drop("letterboxed", (Where("technical.bars", above=0.06),)),
            # edges say how much there is to judge sharpness by: a smooth sky is not blurred
            Drop("blurred", (Where("technical.sharpness", below=2.5), Where("technical.edges", above=3.4))),
            Drop("blocky", (Where("technical.blockiness", above=1.57),)),
            Drop("static", (Where("technical.change", below=0.002),)),
            # duplicates in step are a raised frame rate, which leaves motion whole
            Drop("frozen", (Where("technical.hold", above=0.15), Where("technical.cadence", below=0.5))),
            NearDuplicates(),
        ),
    )
