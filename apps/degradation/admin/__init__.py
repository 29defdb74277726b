"""Flags in the console: look at all of them; engage, extend and end on pages of their own."""

from apps.degradation.admin import flags

__all__ = ["flags"]
