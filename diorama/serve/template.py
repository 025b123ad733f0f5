"""The templates of pages."""

from collections.abc import Callable, Mapping
from typing import Any

import jinja2


def template(name: str, filters: Mapping[str, Callable[..., Any]]) -> jinja2.Template:
    """The template `name` of this folder, with these filters and `whole`; what it asks for must be given."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("diorama.serve", "."), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    environment.filters |= {"whole": "{:,}".format, **filters}
    return environment.get_template(name)
