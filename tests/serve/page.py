"""A page as its reader finds it, for the tests of reports."""

from html.parser import HTMLParser

VOID = {"meta", "img", "br", "path", "use", "rect"}


class Page(HTMLParser):
    """Fails on tags that are not closed in order; keeps the text, the headings' ids, and every address."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.text, self.addresses, self.tags = "", [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href", "xlink:href") and value]
        self.text += " "
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag
        self.text += " "

    def handle_data(self, data: str) -> None:
        self.text += data
