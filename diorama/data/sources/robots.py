"""What the owners of a server wish of programs: robots.txt, and headers that reserve media from training.

Python's own `urllib.robotparser` knows no wildcards and lets the first rule win instead of the longest, so a rule such
as `Disallow: /*.jpg$` would be passed over.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote, unquote

# Words of an X-Robots-Tag header that reserve media: https://developers.google.com/search/docs/crawling-indexing/
# robots-meta-tag has the noindex ones, noai and noimageai come from DeviantArt.
RESERVING = ("noai", "noimageai", "noindex", "noimageindex", "none")


@dataclass(frozen=True)
class Robots:
    """A robots.txt as it concerns one program, by RFC 9309. rules: (allowed, pattern). delay: seconds, or 0."""

    rules: tuple[tuple[bool, str], ...] = ()
    delay: float = 0.0

    def allows(self, path: str) -> bool:
        """Whether `path`, with its query, may be fetched: the longest rule that matches says so, allowing at a tie."""
        path = _plain(path or "/")
        found = [(len(pattern), allowed) for allowed, pattern in self.rules if _matches(pattern, path)]
        return path == "/robots.txt" or max(found, default=(0, True))[1]


def robots(text: str, agent: str) -> Robots:
    """The rules of a robots.txt for `agent`: those of all its groups, else those for everyone."""
    groups: dict[str, Robots] = {}
    named: list[str] = []
    ruled = True  # whether the group that is read has a rule: a further user-agent line begins another one
    for line in text.removeprefix("\ufeff").splitlines():
        key, _, value = line.partition("#")[0].partition(":")
        key, value = key.strip().lower(), value.strip()
        if key == "user-agent":
            named = [*([] if ruled else named), value.split("/")[0].strip().lower()]
            ruled = False
        elif key in ("allow", "disallow", "crawl-delay"):
            ruled = True
        for name in named:
            group = groups.setdefault(name, Robots())
            if key in ("allow", "disallow") and value:
                groups[name] = Robots((*group.rules, (key == "allow", _plain(value))), group.delay)
            elif key == "crawl-delay":
                groups[name] = Robots(group.rules, max(group.delay, _seconds(value)))
    return groups.get(agent.lower(), groups.get("*", Robots()))


def reserved(headers: Sequence[tuple[str, str]], agent: str) -> str | None:
    """The header, as "name: value", by which a server reserves what it sends from training; None where none does.

    X-Robots-Tag with a word of `RESERVING`, for everyone or for `agent`; and TDM-Reservation: 1 (the W3C community
    group's TDM Reservation Protocol).
    """
    for name, value in headers:
        if name.lower() == "tdm-reservation" and value.strip() == "1":
            return f"{name}: {value}"
        if name.lower() != "x-robots-tag":
            continue
        to, colon, rest = value.partition(":")
        if colon and "," not in to and to.strip().lower() not in (agent, "unavailable_after", *_SIZED):
            continue  # it speaks to another program
        words = (rest if to.strip().lower() == agent else value).replace(":", ",").lower().split(",")
        if {word.strip() for word in words} & {*RESERVING}:
            return f"{name}: {value}"
    return None


_SIZED = ("max-snippet", "max-image-preview", "max-video-preview")  # directives that take a value after a colon


def wishes(headers: Sequence[tuple[str, str]]) -> dict[str, str]:
    """The headers of an answer that speak of such wishes, whether or not they reserve."""
    names = ("x-robots-tag", "tdm-reservation", "tdm-policy")
    return {name.lower(): value for name, value in headers if name.lower() in names}


def _matches(pattern: str, path: str) -> bool:
    """Whether a pattern with wildcards `*` and an end `$` matches; in linear time, as the pattern is a stranger's."""
    anchored = pattern.endswith("$")
    first, *rest = pattern.removesuffix("$").split("*")
    if not path.startswith(first):
        return False
    at = len(first)
    if not rest:
        return not anchored or at == len(path)
    for part in rest[:-1] if anchored else rest:
        at = path.find(part, at)
        if at < 0:
            return False
        at += len(part)
    return not anchored or (path.endswith(rest[-1]) and len(path) - len(rest[-1]) >= at)


def _plain(path: str) -> str:
    """One spelling for paths that differ in their percent signs only."""
    return quote(unquote(path), safe="/*$?&=+,;:@!'()~")


def _seconds(text: str) -> float:
    try:
        return max(float(text), 0.0)
    except ValueError:
        return 0.0
