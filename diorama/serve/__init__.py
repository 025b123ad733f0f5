"""Pages for people: the report of a run, and a catalogue to look through."""

from diorama.serve.report import write_report

__all__ = ["write_report"]
