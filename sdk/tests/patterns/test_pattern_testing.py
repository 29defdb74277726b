"""`holdfast.testing`, as a user's test would use it."""

from __future__ import annotations

import threading

import pytest

from holdfast import Holdfast
from holdfast.testing import LocalHoldfast


class TestLocalHoldfast:
    def test_it_is_a_holdfast_that_starts_nothing(self) -> None:
        before = threading.active_count()
        hf: Holdfast = LocalHoldfast()

        assert hf.start(wait=0) is False
        assert hf.call("api", lambda: 1) == 1

        assert threading.active_count() == before

    def test_the_example_of_its_docstring_holds(self) -> None:
        hf = LocalHoldfast()
        hf.set_policy("payments-api", breaker={"consecutive_failures": 2})
        hf.engage("read-only", kind="read_only", lease_seconds=60)

        assert hf.read_only
        hf.fake_clock.advance(61)
        assert not hf.read_only

    @pytest.mark.parametrize(
        ("pattern", "values"),
        [
            ("breaker", {"open_seconds": 0}),
            ("breaker", {"open_second": 5}),
            ("retry", {"backoff": "fibonacci"}),
        ],
    )
    def test_what_a_server_would_refuse_fails_the_test(
        self, pattern: str, values: dict[str, object]
    ) -> None:
        with pytest.raises(ValueError, match=pattern):
            LocalHoldfast().set_policy("api", **{pattern: values})

    def test_bad_flags_and_overrides_fail_too(self) -> None:
        hf = LocalHoldfast()

        with pytest.raises(ValueError, match="kind"):
            hf.engage("flag", kind="writeonly")
        with pytest.raises(ValueError, match="mode"):
            hf.override("api", "half_closed")

    def test_setting_one_pattern_leaves_the_others(self) -> None:
        hf = LocalHoldfast()
        hf.set_policy("api", breaker={"open_seconds": 5})
        hf.set_policy("api", retry={"attempts": 2})

        settings = hf.explain("api")["settings"]

        assert settings["breaker.open_seconds"]["value"] == 5
        assert settings["retry.attempts"]["value"] == 2

    def test_ending_a_flag_ends_it(self) -> None:
        hf = LocalHoldfast()
        hf.engage("beta")
        hf.end("beta")

        assert not hf.flag("beta").enabled
