"""Settings, overrides, presets and what is in effect, over HTTP."""
