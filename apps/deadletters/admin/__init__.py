"""The inbox: what failed alike, each letter of it, and what was given back."""

from apps.deadletters.admin import groups, letters, redrives

__all__ = ["groups", "letters", "redrives"]
