"""Modules, randomness, layouts and configuration: no machine learning."""

from diorama.core.config import override, parse, to_text
from diorama.core.errors import UserError
from diorama.core.layout import Layout
from diorama.core.module import Module, Policy, static

__all__ = ["Layout", "Module", "Policy", "UserError", "override", "parse", "static", "to_text"]
