"""`python -m demo`: run the fleet, or break one of its dependencies and watch the wall."""

import argparse
import json
import os
import re
import sys
from pathlib import Path

import httpx

from demo import supervisor
from demo.plan import DEPENDENCIES, FOLDER

ROOT = Path(__file__).resolve().parent.parent
UNITS = {"": 1, "s": 1, "m": 60}


def seconds(text: str) -> int:
    """60, 60s or 2m as seconds."""
    match = re.fullmatch(r"(\d{1,4})([sm]?)", text)
    if match is None:
        raise argparse.ArgumentTypeError("say 60s or 2m")
    return int(match[1]) * UNITS[match[2]]


def var_folder() -> Path:
    return Path(os.environ.get("HOLDFAST_VAR", ROOT / "var"))


def fakes_url() -> str:
    path = var_folder() / FOLDER / "fakes.json"
    try:
        return str(json.loads(path.read_text())["url"])
    except FileNotFoundError:
        sys.exit("The demo does not run: start it with `make run`.")


def command(method: str, path: str) -> None:
    """Tell the fakes something, and print how they are."""
    try:
        response = httpx.request(method, f"{fakes_url()}/{path}", timeout=5)
    except httpx.TransportError:
        sys.exit("The demo does not run: start it with `make run`.")
    for name, state in response.json().items():
        sys.stdout.write(f"{name:<12} {state}\n")
    if response.is_error:
        sys.exit(1)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    run = verbs.add_parser("run", help="the services and what they call; `make run` does it")
    run.add_argument("--url", required=True, help="where the server is, or will be")
    run.add_argument("--calm", action="store_true", help="nothing fails but on purpose")
    names = [each.slug for each in DEPENDENCIES]
    breaks = verbs.add_parser("break", help="let a dependency fail on purpose")
    breaks.add_argument("name", choices=names)
    breaks.add_argument("seconds", nargs="?", type=seconds, default=60, help="60s, 2m; at most 1 h")
    verbs.add_parser("mend", help="end that").add_argument("name", choices=names)
    verbs.add_parser("status", help="how each dependency is")
    chosen = parser.parse_args()
    if chosen.verb == "run":
        supervisor.run(chosen.url, var_folder(), is_calm=chosen.calm)
    elif chosen.verb == "break":
        command("POST", f"{chosen.name}/break?seconds={chosen.seconds}")
    elif chosen.verb == "mend":
        command("POST", f"{chosen.name}/mend")
    else:
        command("GET", "")


main()
