"""`python -m holdfast.spec [pattern …]`: settings, units, defaults and bounds as Markdown."""

import argparse
import sys
from collections.abc import Sequence

from holdfast.spec.markdown import table
from holdfast.spec.table import PATTERNS


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables of the patterns named, of all without a name."""
    parser = argparse.ArgumentParser(prog="python -m holdfast.spec", description=__doc__)
    parser.add_argument("pattern", nargs="*", help=f"one of {', '.join(PATTERNS)}")
    named = parser.parse_args(arguments).pattern or list(PATTERNS)
    if unknown := [name for name in named if name not in PATTERNS]:
        parser.error(f"there is no pattern {unknown[0]}; there are {', '.join(PATTERNS)}")
    for name in named:
        print(f"{PATTERNS[name].title}\n\n{table(name)}\n")  # noqa: T201 - a command speaks on stdout
    return 0


if __name__ == "__main__":
    sys.exit(main())
