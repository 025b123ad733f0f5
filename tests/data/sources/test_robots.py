"""robots.txt by RFC 9309, and headers that reserve media."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diorama.data.sources.robots import Robots, _matches, reserved, robots

RFC = """User-Agent: *
Disallow: *.gif$
Disallow: /example/
Allow: /publications/

User-Agent: foobot
Disallow:/
Allow:/example/page.html
Allow:/example/allowed.gif

User-Agent: barbot
User-Agent: bazbot
Disallow: /example/page.html

User-Agent: quxbot
"""


@pytest.mark.parametrize(
    ("agent", "path", "allowed"),
    [
        ("anybot", "/a.gif", False), ("anybot", "/a.gif?x", True), ("anybot", "/example/a", False),
        ("anybot", "/publications/a.gif", True), ("anybot", "/", True), ("foobot", "/a", False),
        ("FooBot", "/example/page.html", True), ("foobot", "/example/allowed.gif", True), ("foobot", "/x.gif", False),
        ("barbot", "/example/page.html", False), ("bazbot", "/example/page.html", False), ("barbot", "/a.gif", True),
        ("quxbot", "/example/page.html", True), ("foobot", "/robots.txt", True),
    ],
)  # fmt: skip
def test_the_example_of_the_standard(agent, path, allowed):
    """RFC 9309, section 5.1; a group without rules forbids nothing."""
    assert robots(RFC, agent).allows(path) == allowed


@pytest.mark.parametrize(
    ("rules", "path", "allowed"),
    [
        ("Disallow: /fish*", "/fish/salmon", False), ("Disallow: /fish*.php", "/fishheads/catfish.php?p=1", False),
        ("Disallow: /*.php$", "/filename.php?p=1", True), ("Disallow: /*.php$", "/a/b.php", False),
        ("Disallow: /", "/", False), ("Disallow:", "/x", True), ("Allow: /p\nDisallow: /", "/page", True),
        ("Disallow: /\nAllow: /p", "/page", True), ("Allow: /a\nDisallow: /a", "/a", True),
        ("Disallow: /x%20y", "/x y", False), ("Disallow: /caf%C3%A9", "/café", False),
        ("Disallow: /a # why", "/a", False), ("Sitemap: /s\nDisallow: /a", "/a", False),
    ],
)  # fmt: skip
def test_rules(rules, path, allowed):
    assert robots(f"User-agent: *\n{rules}\n", "diorama").allows(path) == allowed


def test_groups_of_one_agent_are_joined_and_others_are_not_asked():
    text = "user-agent: diorama\ndisallow: /a\n\nuser-agent: x\ndisallow: /c\nuser-agent: Diorama/1.0\ndisallow: /b\n"
    rules = robots("\ufeff" + text + "user-agent: *\ndisallow: /\ncrawl-delay: 9", "diorama")
    assert [rules.allows(path) for path in ("/a", "/b", "/c")] == [False, False, True]
    assert rules.delay == 0
    assert robots("user-agent: *\ncrawl-delay: 2.5\ncrawl-delay: x\n", "diorama").delay == 2.5


@given(st.text())
def test_any_text_is_read(text):
    assert robots(text, "diorama").allows("/robots.txt")


@given(st.text("ab*", max_size=8), st.booleans(), st.text("ab", max_size=8))
def test_patterns_mean_what_expressions_say(pattern, anchored, path):
    expression = pattern.replace("*", ".*") + ("$" if anchored else "")
    assert _matches(pattern + "$" * anchored, path) == bool(re.match(expression, path))


def test_a_malicious_pattern_takes_no_time():
    began = time.process_time()
    Robots(((False, "/" + "*a" * 500 + "*b"),)).allows("/" + "a" * 5000)
    assert time.process_time() - began < 1


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ([("X-Robots-Tag", "noai")], True), ([("x-robots-tag", "nofollow, NoImageAI")], True),
        ([("X-Robots-Tag", "nofollow")], False), ([("X-Robots-Tag", "diorama: noindex")], True),
        ([("X-Robots-Tag", "googlebot: noindex, noai")], False), ([("X-Robots-Tag", "noai, max-snippet: 5")], True),
        ([("X-Robots-Tag", "max-snippet: 5, noai")], True), ([("TDM-Reservation", "1")], True),
        ([("tdm-reservation", "0")], False), ([("X-Robots-Tag", "all"), ("X-Robots-Tag", "noindex")], True),
        ([], False),
    ],
)  # fmt: skip
def test_reservations(headers, found):
    assert bool(reserved(headers, "diorama")) == found
