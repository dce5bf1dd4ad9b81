"""Networks for the reader's page: a program and weights for `runner.js`, and tables of walks."""

from .export import Exported, export
from .table import walk_table

__all__ = ["Exported", "export", "walk_table"]
