"""What the outermost application adds to every request and answer."""

import pytest

from controlplane.asgi import with_request_id


@pytest.mark.parametrize(
    "given",
    [
        [],
        [b""],
        [b"a b"],
        [b"line\nbreak"],
        [b"trailing\n"],
        [b"x" * 65],
        [b"\xff"],
        [b"one", b"two"],
    ],
)
def test_what_is_not_one_plain_id_is_replaced(given: list[bytes]) -> None:
    headers = [(b"accept", b"*/*"), *[(b"x-request-id", value) for value in given]]

    request_id, kept = with_request_id(headers)

    assert kept == [(b"accept", b"*/*"), (b"x-request-id", request_id)]
    assert request_id not in given
    assert len(request_id) == 32


def test_a_plain_id_is_kept() -> None:
    request_id, kept = with_request_id([(b"x-request-id", b"deploy-42.step_7")])

    assert (request_id, kept) == (b"deploy-42.step_7", [(b"x-request-id", b"deploy-42.step_7")])
