"""Who shows the same as whom: joins that scale, verification, groups, and the rule that leaves copies out."""

from diorama.data.duplicates.groups import Duplicate, near_duplicates
from diorama.data.duplicates.rule import NearDuplicates

__all__ = ["Duplicate", "NearDuplicates", "near_duplicates"]
