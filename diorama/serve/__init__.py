"""Pages for people: the report of a run."""

from diorama.serve.report import write_report

__all__ = ["write_report"]
