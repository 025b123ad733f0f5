"""What programs send, counted by hand: every way in which XLA writes groups, loops, and bytes by ring algorithms."""

import numpy as np
import pytest

from diorama.core.collectives import Collective, _groups, collectives

PROGRAM = """HloModule jit_step, is_scheduled=true, num_partitions=16

%add (x: f32[], y: f32[]) -> f32[] {
  %x = f32[] parameter(0)
  %y = f32[] parameter(1)
  ROOT %sum = f32[] add(%x, %y)
}

%add.clone_promoted (x: f32[], y: f32[]) -> f32[] {
  ROOT %sum = f32[] add(%x, %y)
}

%inner (p: (s32[], f32[4,8])) -> (s32[], f32[4,8]) {
  %p = (s32[], f32[4,8]{1,0}) parameter(0)
  %gathered = bf16[64,8]{1,0} all-gather(%part), channel_id=1, replica_groups=[2,8]<=[16], dimensions={0}
  ROOT %t = (s32[], f32[4,8]{1,0}) tuple(%i, %y)
}

%outer (p: (s32[], f32[4,8])) -> (s32[], f32[4,8]) {
  %w = (s32[], /*index=1*/f32[4,8]{1,0}) while(%p), condition=%turns, body=%inner, backend_config={"known_trip_count":{"n":"3"}}
  ROOT %both = (f32[16]{0}, f32[4,4]{1,0}) all-reduce(%a, %b), channel_id=2, replica_groups={{0,8},{1,9},{2,10},{3,11},{4,12},{5,13},{6,14},{7,15}}, to_apply=%add
}

%turns (p: (s32[], f32[4,8])) -> pred[] {
  ROOT %less = pred[] compare(%i, %n), direction=LT
}

ENTRY %main (a: f32[4,8]) -> f32[4,8] {
  %loop = (s32[], f32[4,8]{1,0}) while(%start), condition=%turns, body=%outer, backend_config={"known_trip_count":{"n":"5"}}
  %narrow = f32[100]{0} all-reduce(%c), channel_id=3, replica_groups={}, to_apply=%add.clone_promoted, metadata={}
  %scattered = f32[10]{0} reduce-scatter(%c), channel_id=4, replica_groups=[8,2]<=[16], to_apply=%add
  %alone = f32[1000]{0} all-gather(%c), channel_id=5, replica_groups=[16,1]<=[16]
  %shifted = f32[6]{0} collective-permute(%c), channel_id=6, source_target_pairs={{0,1},{1,0},{2,2}}
  %begun = ((f32[2]{0}, s8[4]{0}), (f32[4]{0}, s8[8]{0})) all-gather-start(%c, %d), replica_groups=[8,2]<=[16]
  ROOT %swapped = (f32[6]{0}, f32[6]{0}) all-to-all(%e, %f), replica_groups=[8,2]<=[16]
}
"""  # noqa: E501


def test_loops_kinds_and_nodes():
    assert collectives(PROGRAM, 16, 8) == [
        Collective("all-gather", False, 15 + 1, 15 * (64 * 8 * 2 * 7 // 8) + (16 + 8) // 2),
        Collective("all-reduce", True, 5 + 1, 5 * (2 * (16 + 16) * 4 // 2) + 2 * 200 * 15 // 16),
        Collective("all-to-all", False, 1, 48 // 2),
        Collective("collective-permute", False, 1, 24),
        Collective("reduce-scatter", False, 1, 40),
    ]


def test_a_node_may_hold_all():
    assert not any(each.across for each in collectives(PROGRAM, 16, 16))


@pytest.mark.parametrize(
    ("written", "groups"),
    [
        ("replica_groups={{0,2},{1,3}}, dims", [[0, 2], [1, 3]]),
        ("replica_groups=[2,2]<=[4], dims", [[0, 1], [2, 3]]),
        ("replica_groups=[2,2]<=[2,2]T(1,0), dims", [[0, 2], [1, 3]]),
        ("replica_groups=mesh['x'=2,'y'=2] {'y'}, dims", [[0, 1], [2, 3]]),
        ("replica_groups=mesh['x'=2,'y'=2] {'x'}, dims", [[0, 2], [1, 3]]),
        ("replica_groups=mesh['x'=2,'y'=2] {'x','y'}, dims", [[0, 1, 2, 3]]),
        ("replica_groups=mesh['x'=2,'y'=2], device_ids=([2,2]T(1,0)) {'y'}, dims", [[0, 2], [1, 3]]),
        ("replica_groups=mesh['x'=4] {'x':(1)2}, dims", [[0, 2], [1, 3]]),
        ("replica_groups=mesh['x'=4] {'x':(2)2}, dims", [[0, 1], [2, 3]]),
        ("replica_groups={}, dims", [[0, 1, 2, 3]]),
    ],
)
def test_groups_in_every_spelling(written, groups):
    found = _groups(written, 4)
    assert sorted(sorted(row) for row in np.asarray(found).tolist()) == groups
