"""Runs management commands for a test, one a line: starting Django anew for each takes seconds.

Reads a JSON list of arguments from each line, and answers with a line of its own: the exit code and
what was printed.
"""

import io
import json
import sys
from contextlib import redirect_stderr, redirect_stdout

import django
from django.core.management import call_command
from django.db import connections


def run(arguments: list[str]) -> tuple[int, str]:
    printed = io.StringIO()
    try:
        with redirect_stdout(printed), redirect_stderr(printed):
            call_command(*arguments)
    except SystemExit as end:
        return int(end.code or 0), printed.getvalue()
    except Exception as error:  # noqa: BLE001 - the test shows it
        return 1, f"{printed.getvalue()}{type(error).__name__}: {error}"
    finally:
        connections.close_all()  # the next one may find the database started anew
    return 0, printed.getvalue()


def main() -> None:
    django.setup()
    for line in sys.stdin:
        sys.stdout.write(json.dumps(run(json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
