"""Captions: checked, made from templates, asked of a vision-language model, and compared with the pictures.

All of them are `Derived` stages, but for `SameCaption`, which is a rule.
"""

from diorama.data.captions.agreement import Agreement, TextEncoder
from diorama.data.captions.checks import CaptionChecks
from diorama.data.captions.language import Language
from diorama.data.captions.program import Command
from diorama.data.captions.same import SameCaption
from diorama.data.captions.server import OpenAICompatible
from diorama.data.captions.sift import Sift
from diorama.data.captions.template import Template
from diorama.data.captions.vlm import Caption, Captioner, Captions

__all__ = [
    "Agreement",
    "Caption",
    "CaptionChecks",
    "Captioner",
    "Captions",
    "Command",
    "Language",
    "OpenAICompatible",
    "SameCaption",
    "Sift",
    "Template",
    "TextEncoder",
]
