#!/usr/bin/env python
"""Holdfast's command line."""

import os
import sys

from django.core.management import execute_from_command_line

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings")
    if sys.argv[1:2] == ["serve"]:
        # Only web processes keep a pool of database connections: Celery's children fork.
        os.environ.setdefault("HOLDFAST_WEB", "1")
    execute_from_command_line(sys.argv)
