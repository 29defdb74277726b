"""Alerts over HTTP, by noun."""
