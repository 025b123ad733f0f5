"""curate_stills: pictures without technical defects and without near-duplicates.

Command:   diorama curate SRC... --out CATALOGUE --recipe curate_stills     (first with --dry-run)
Hardware:  two CPU cores; its speed is in docs/log.md.

A threshold may be a number or a Percentile. Copy this file, change them, and try them with --dry-run: what was measured
is kept, and no clip is looked at again. docs/log.md has recall and precision of each rule. For sources that mark their
pictures, `diorama.data.watermarks` says what to add.
"""

from diorama.data import Curation, Drop, Where
from diorama.data.duplicates import NearDuplicates
from diorama.data.stages import Preview, Signature, Technical


def recipe() -> Curation:
    """The curation."""
    return Curation(
        stages=(Technical(), Signature(), Preview()),
        rules=(
            Drop("flat", (Where("technical.contrast", below=3.0),)),
            Drop("dark", (Where("technical.highlights", below=48.0),)),
            Drop("overexposed", (Where("technical.shadows", above=170.0),)),
            Drop("letterboxed", (Where("technical.bars", above=0.06),)),
            # edges say how much there is to judge sharpness by: a smooth sky is not blurred
            Drop("blurred", (Where("technical.sharpness", below=2.5), Where("technical.edges", above=3.4))),
            Drop("blocky", (Where("technical.blockiness", above=1.57),)),
            # the dark has no colour
            Drop(
                "grey",
                (
                    Where("technical.chroma", below=6.0),
                    Where("technical.colourfulness", below=3.0),
                    Where("technical.highlights", above=60.0),
                ),
            ),
            NearDuplicates(),
        ),
    )
