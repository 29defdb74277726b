"""What makes failures alike."""

import time
from datetime import UTC, datetime

import pytest

from apps.deadletters import rules

STACK = """Traceback (most recent call last):
  File "/srv/shop/views.py", line {line}, in checkout
    pay(order)
  File "/srv/shop/pay.py", line 31, in charge
    client.post(order)
  File "/srv/.venv/lib/python3.12/site-packages/httpx/_client.py", line 900, in post
    raise ConnectTimeout
"""
JAVA = """shop.Declined: no money
    at shop.Pay.charge(Pay.java:31)
    at java.base/java.lang.Thread.run(Thread.java:833)
    at shop.Views.checkout(Views.java:7)
"""


def fingerprint(**told: str) -> str:
    said = {"error_class": "Timeout", "message": "late", "stack": "", "handler": "charge"} | told
    return rules.fingerprint_of(**said)


class TestFingerprint:
    def test_line_numbers_and_foreign_frames_play_no_part(self) -> None:
        assert rules.in_app_frames(STACK.format(line=3)) == ["views.checkout", "pay.charge"]
        assert fingerprint(stack=STACK.format(line=3)) == fingerprint(stack=STACK.format(line=99))

    def test_other_languages_have_the_newest_frame_first(self) -> None:
        assert rules.in_app_frames(JAVA) == ["shop.Pay.charge", "shop.Views.checkout"]

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("order 17 of 3 items", "order 18 of 2 items"),
            ("no user ana@example.com", "no user bob.b+x@mail.example.org"),
            ("GET https://a.example/x?y=1 failed", "GET http://b.example/ failed"),
            ("10.0.0.1:5432 refused", "192.168.7.12:5432 refused"),
            (
                "job 5f0c1a2b-0000-4000-8000-000000000001 died",
                "job 9f0c1a2b-1111-4000-8000-00000000000f died",
            ),
            ("at 2026-11-22T14:00:00Z", "at 2025-01-02 03:04:05.123"),
            ("object at 0x7f3a", "object at 0x99bb"),
            ("no column 'price'", "no column 'name'"),
        ],
    )
    def test_messages_of_one_kind_are_alike(self, one: str, other: str) -> None:
        assert rules.parameterised(one) == rules.parameterised(other)

    @pytest.mark.parametrize(
        "told", [{"error_class": "Other"}, {"handler": "refund"}, {"message": "refused"}]
    )
    def test_what_differs_is_not_alike(self, told: dict[str, str]) -> None:
        assert fingerprint(**told) != fingerprint()

    @pytest.mark.parametrize(
        "text", ["a" * 10**6, "a@" * 10**6, "'" * 10**6, "1." * 10**6, "a.b-" * 10**6, "\n" * 10**6]
    )
    def test_no_text_keeps_it_busy(self, text: str) -> None:
        started = time.process_time()

        fingerprint(message=text, stack=text + '\n  File "' + text)

        assert time.process_time() - started < 1.0


class TestAddingUp:
    def test_only_so_many_failures_are_remembered_and_older_ones_are_replays(self) -> None:
        moments = [datetime.fromtimestamp(second, UTC) for second in range(60)]
        counted: list[int] = []

        for moment in moments[5:]:
            counted = rules.with_counted(counted, moment)

        assert len(counted) == rules.MOST_COUNTED
        assert rules.is_replay(counted, moments[59])
        assert rules.is_replay(counted, moments[0])
        assert not rules.is_replay(counted, moments[59].replace(microsecond=1))
