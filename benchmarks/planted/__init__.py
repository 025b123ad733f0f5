"""Sets of pictures with planted copies and defects, whose truth is known: what curation is measured on."""
