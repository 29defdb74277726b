"""Holdfast SDK."""
