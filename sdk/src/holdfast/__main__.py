"""`python -m holdfast doctor`: is everything there that the SDK needs?"""

import argparse
import sys
from collections.abc import Sequence

from holdfast import __version__
from holdfast._doctor import examine
from holdfast._settings import resolve


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit code: 0 all well or warnings only, 1 something fails."""
    options = _parser().parse_args(arguments)
    settings = resolve(options.url, None, options.service, options.cache_dir)
    is_failing = False
    for finding in examine(settings):
        is_failing = is_failing or finding.level == "fail"
        print(finding, flush=True)  # noqa: T201 - a command speaks on stdout
    return int(is_failing)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m holdfast")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True)
    doctor = commands.add_parser(
        "doctor",
        help="check URL, token, scopes, clock, cache directory and stream",
        description="The token is read from HOLDFAST_TOKEN only, and never printed.",
    )
    doctor.add_argument("--url", help="instead of HOLDFAST_URL")
    doctor.add_argument("--service", help="instead of HOLDFAST_SERVICE")
    doctor.add_argument("--cache-dir", help="instead of HOLDFAST_CACHE_DIR")
    return parser


if __name__ == "__main__":
    sys.exit(main())
