"""A program of one's own, asked by lines of JSON."""

import sys

import pytest

from diorama.core.errors import UserError
from diorama.data.captions import Caption, Command

CLIPS = [[b"one"], [b"two", b"three"], [b"four"]]


def program(body: str, **options) -> Command:
    """A Python program with `lines` of what it is asked and `say` to answer."""
    head = "import json, sys\nlines = [json.loads(l) for l in sys.stdin]\nsay = lambda **a: print(json.dumps(a))\n"
    return Command((sys.executable, "-c", head + body), **options)


def test_every_clip_is_asked_about_once():
    echo = program(
        "for l in reversed(lines):\n"
        "    words = [open(p, 'rb').read().decode() for p in l['images']]\n"
        "    print('chatter of a library')\n"
        "    say(clip=l['clip'], text=' '.join([*words, l['prompt'], str(l['seed'])]))\n"
    )
    assert [c.text for c in echo(CLIPS, "say", 3)] == ["one say 3", "two three say 3", "four say 3"]


def test_kinds_of_answers():
    mixed = program(
        "say(clip=0, text='a cat and', status='truncated')\n"
        "say(clip=1, text='As an AI language model, I cannot see.')\n"
        "say(clip=2, text='odd', status='fine')\n"
    )
    truncated, refused, odd = mixed(CLIPS, "?", 0)
    assert truncated == Caption("a cat and", "truncated")
    assert refused.status == "refused"
    assert odd == Caption(None, "error", "the program answered text 'odd' with status 'fine'")


def test_clips_that_a_dying_program_left_out_are_errors():
    dying = program("say(clip=1, text='a dog'); sys.stdout.flush(); sys.exit('out of memory')")
    captions = dying(CLIPS, "?", 0)
    assert [c.status for c in captions] == ["error", "success", "error"]
    assert captions[0].why == "no answer; the program left with 1: out of memory"


def test_a_program_that_answers_nothing_at_all():
    with pytest.raises(UserError, match=r"no caption of 3 clips in a row.* left with 3"):
        program("sys.exit(3)")(CLIPS, "?", 0)


def test_a_program_that_hangs_keeps_what_it_said():
    slow = program("import time\nsay(clip=0, text='a dog'); sys.stdout.flush(); time.sleep(60)", timeout=0.0, start=2.0)
    captions = slow(CLIPS, "?", 0)
    assert captions[0] == Caption("a dog", "success")
    assert captions[1] == Caption(None, "error", "no answer within 2 s for 3 clips")


def test_a_program_that_is_not_there():
    with pytest.raises(UserError, match="cannot be run"):
        Command(("/no/such/program",))(CLIPS, "?", 0)
