"""A service as its developers would write it: `python -m tests.e2e.orders KIND PORT`.

`wsgi` and `asgi` are Django with Holdfast's middleware, sync and async; `bare` is an ASGI
application of its own. Each answers POST /orders with 201 unless read-only mode stops it, and
GET /state with what the SDK holds.
"""

import json
import sys
from typing import Any
from wsgiref.simple_server import make_server

import uvicorn

from holdfast import Holdfast
from holdfast.contrib.asgi import ReadOnlyMiddleware

hf = Holdfast()


@hf.guard("payments-api")
def charge() -> str:
    return "charged"


def state() -> dict[str, Any]:
    flag = hf.read_only_flag
    return {"read_only": hf.read_only, "remaining": flag.remaining_seconds if flag else None}


async def bare(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    status = 201 if scope["method"] == "POST" else 200
    body = charge() if status == 201 else json.dumps(state())
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body.encode()})


def use_django() -> None:
    import django
    from django.conf import settings

    settings.configure(
        ALLOWED_HOSTS=["127.0.0.1"],
        HOLDFAST={"client": f"{__name__}.hf"},
        MIDDLEWARE=["holdfast.contrib.django.ReadOnlyMiddleware"],
        ROOT_URLCONF="tests.e2e.orders_urls",
        SECRET_KEY="of the orders service",
    )
    django.setup()


def serve(kind: str, port: int) -> None:
    hf.start(wait=5.0)
    if kind == "bare":
        uvicorn.run(ReadOnlyMiddleware(bare, hf), port=port, log_level="warning", lifespan="off")
        return
    use_django()
    if kind == "asgi":
        from django.core.asgi import get_asgi_application

        uvicorn.run(get_asgi_application(), port=port, log_level="warning", lifespan="off")
    else:
        from django.core.wsgi import get_wsgi_application

        make_server("127.0.0.1", port, get_wsgi_application()).serve_forever()


if __name__ == "__main__":
    from tests.e2e import orders  # the module Django imports by name, not this `__main__`

    orders.serve(sys.argv[1], int(sys.argv[2]))
