"""Settings, overrides, effective policies and revisions in the console."""

from apps.policies.admin import configs, effective, overrides, revisions

__all__ = ["configs", "effective", "overrides", "revisions"]
