"""Every policy setting, flag and preset, defined once: names, units, bounds, defaults, meaning.

The SDK, the server's models, forms and serializers, the JSON Schema and the documentation all
read this. Importing it starts nothing and imports no HTTP client.

Patterns outside `ACTIVE_PATTERNS` are defined, validated and kept, but do nothing in this version.
"""

from holdfast.spec.cleaning import Problem, clean_pattern
from holdfast.spec.effective import check_effective, effective_pattern
from holdfast.spec.flags import (
    FLAG_KINDS,
    FLAG_SCOPES,
    ON_STALE,
    OVERRIDE_LEASE_SECONDS,
    OVERRIDE_MODES,
    clean_flag,
    clean_override,
    flag_bucket,
    in_rollout,
    merge_flags,
    merge_overrides,
)
from holdfast.spec.local import ENVIRONMENT_VARIABLES, local_defaults
from holdfast.spec.presets import CHECK_KINDS, PRESETS, Preset, PresetCheck
from holdfast.spec.rows import ERROR_CLASSES, FALLBACK_CAUSES, Pattern, Setting
from holdfast.spec.schema import json_schema
from holdfast.spec.table import ACTIVE_PATTERNS, PATTERNS, default_of, setting

__all__ = [
    "ACTIVE_PATTERNS",
    "CHECK_KINDS",
    "ENVIRONMENT_VARIABLES",
    "ERROR_CLASSES",
    "FALLBACK_CAUSES",
    "FLAG_KINDS",
    "FLAG_SCOPES",
    "ON_STALE",
    "OVERRIDE_LEASE_SECONDS",
    "OVERRIDE_MODES",
    "PATTERNS",
    "PRESETS",
    "Pattern",
    "Preset",
    "PresetCheck",
    "Problem",
    "Setting",
    "check_effective",
    "clean_flag",
    "clean_override",
    "clean_pattern",
    "default_of",
    "effective_pattern",
    "flag_bucket",
    "in_rollout",
    "json_schema",
    "local_defaults",
    "merge_flags",
    "merge_overrides",
    "setting",
]
