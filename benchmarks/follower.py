"""A process that prints each revision and the instant it had it: `KIND URL TOKEN SERVICE`.

KIND `sdk` is a service with the SDK: the instant is that at which the policy was in force.
KIND `stream` only reads the socket: the instant is that at which the bytes had come.
"""

import json
import sys
import tempfile
import time

import httpx

from holdfast import Holdfast


def say(revision: int) -> None:
    print(revision, time.time(), flush=True)


def follow_with_sdk(url: str, token: str, service: str) -> None:
    with tempfile.TemporaryDirectory() as cache:
        client = Holdfast(url, token, service=service, cache_dir=cache)
        client.on_event(
            lambda event: say(event.data["revision"]) if event.type == "policy.applied" else None
        )
        with client:
            sys.stdin.read()


def follow_stream(url: str, token: str, service: str) -> None:
    headers = {"Authorization": f"Bearer {token}"}
    address = f"{url}/api/v1/policies/{service}/stream"
    with httpx.stream("GET", address, headers=headers, timeout=None) as response:
        for line in response.iter_lines():
            if line.startswith("id: "):
                say(int(line.rpartition(":")[2]))
            elif line.startswith("data: "):
                json.loads(line.removeprefix("data: "))


if __name__ == "__main__":
    {"sdk": follow_with_sdk, "stream": follow_stream}[sys.argv[1]](*sys.argv[2:])
