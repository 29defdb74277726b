"""How the pieces of an environment become one service's document."""

import hashlib
from typing import Any

import msgspec
import pytest

from apps.delivery.rules import Document, Origin, merge
from apps.delivery.snapshot import Piece

ORIGIN = Origin("5f0c", "production", "2026-11-22T14:00:00.000Z", 300)
FLAG = {"kind": "read_only", "enabled": True, "dependencies": None, "expires_at": None}
SOON, LATER = "2026-11-22T15:00:00Z", "2026-11-22T16:00:00Z"


def piece(
    part: str,
    body: Any,
    *,
    service: str = "",
    dependency: str = "",
    name: str = "",
    revision: int = 1,
) -> Piece:
    return Piece(part, service, dependency, name, revision, body)


def merged(*pieces: Piece, service: str = "checkout") -> Document:
    return merge(pieces, service, ORIGIN, published_at={1: "first", 2: "second", 3: "third"})


def decoded(*pieces: Piece, service: str = "checkout") -> Any:
    return msgspec.json.decode(merged(*pieces, service=service).body)


USES = piece("use", {}, service="checkout", dependency="payments-api")


class TestSettings:
    def test_the_service_wins_over_the_dependency_and_it_over_the_environment(self) -> None:
        whole = decoded(
            USES,
            piece(
                "setting", {"attempts": 5}, service="checkout", dependency="payments-api",
                name="retry",
            ),
            piece("setting", {"attempts": 2, "base_seconds": 1.0, "max_seconds": 9}, name="retry"),
            piece(
                "setting", {"attempts": 4, "base_seconds": 2.0}, dependency="payments-api",
                name="retry",
            ),
        )  # fmt: skip

        assert whole["dependencies"]["payments-api"]["retry"] == {
            "attempts": 5,
            "base_seconds": 2.0,
            "max_seconds": 9,
        }

    def test_lists_and_maps_replace_the_less_specific_ones_whole(self) -> None:
        whole = decoded(
            USES,
            piece("setting", {"trip_on": ["critical"]}, name="breaker"),
            piece("setting", {"trip_on": []}, dependency="payments-api", name="breaker"),
            piece("setting", {"per_class": {"unknown": {"attempts": 1}}}, name="retry"),
            piece(
                "setting", {"per_class": {"transient": {"attempts": 4}}},
                dependency="payments-api", name="retry",
            ),
        )  # fmt: skip

        assert whole["dependencies"]["payments-api"]["breaker"] == {"trip_on": []}
        assert whole["dependencies"]["payments-api"]["retry"] == {
            "per_class": {"transient": {"attempts": 4}}
        }

    def test_what_is_set_nowhere_is_absent(self) -> None:
        assert decoded(USES)["dependencies"] == {"payments-api": {}}

    def test_a_service_nobody_configured_has_no_dependencies(self) -> None:
        whole = decoded(USES, piece("setting", {"attempts": 2}, name="retry"), service="search")

        assert whole["dependencies"] == {}

    def test_another_services_settings_stay_with_it(self) -> None:
        theirs = piece(
            "setting", {"attempts": 9}, service="search", dependency="payments-api", name="retry"
        )

        assert decoded(USES, theirs)["dependencies"] == {"payments-api": {}}

    def test_a_removed_setting_gives_way_to_the_less_specific_one(self) -> None:
        whole = decoded(
            USES,
            piece("setting", {"attempts": 2}, name="retry"),
            piece("setting", None, dependency="payments-api", name="retry", revision=2),
        )

        assert whole["dependencies"]["payments-api"]["retry"] == {"attempts": 2}
        assert whole["meta"]["revision"] == 2


class TestOverrides:
    @pytest.mark.parametrize(
        ("everywhere", "here", "in_force"),
        [
            ("disabled", None, "disabled"),
            (None, "metrics_only", "metrics_only"),
            ("force_closed", "metrics_only", "metrics_only"),
            ("force_open", "force_closed", "force_open"),
            ("force_closed", "force_open", "force_open"),
        ],
    )
    def test_force_open_wins_else_the_more_specific(
        self, everywhere: str | None, here: str | None, in_force: str
    ) -> None:
        wide = {"mode": everywhere, "expires_at": None} if everywhere else None
        own = {"mode": here, "expires_at": None} if here else None
        whole = decoded(
            USES,
            piece("override", wide, dependency="payments-api"),
            piece("override", own, service="checkout", dependency="payments-api"),
        )

        assert whole["dependencies"]["payments-api"]["override"]["mode"] == in_force

    def test_a_dependency_wide_override_reaches_only_those_who_call_it(self) -> None:
        forced = piece("override", {"mode": "force_open"}, dependency="mail", revision=3)

        assert decoded(USES, forced)["meta"]["revision"] == 1


class TestFlags:
    def test_a_switch_engaged_at_both_levels_lasts_until_the_later_end(self) -> None:
        whole = decoded(
            piece("flag", FLAG | {"expires_at": LATER}, name="read-only"),
            piece("flag", FLAG | {"expires_at": SOON}, service="checkout", name="read-only"),
        )

        assert whole["flags"]["read-only"]["expires_at"] == LATER

    def test_of_a_custom_flag_the_more_specific_wins(self) -> None:
        custom = {"kind": "custom", "enabled": True, "dependencies": None, "expires_at": None}
        whole = decoded(
            piece("flag", custom | {"value": 7}, service="checkout", name="limit"),
            piece("flag", custom | {"value": 3, "expires_at": LATER}, name="limit"),
        )

        assert whole["flags"]["limit"]["value"] == 7

    def test_an_ended_flag_leaves_the_document_and_moves_its_revision(self) -> None:
        whole = decoded(piece("flag", None, name="read-only", revision=2))

        assert (whole["flags"], whole["meta"]["revision"]) == ({}, 2)


class TestDocument:
    def test_the_revision_is_the_newest_that_changed_this_service(self) -> None:
        whole = decoded(
            USES,
            piece("flag", FLAG, name="read-only", revision=2),
            piece("flag", FLAG, service="search", name="read-only", revision=3),
        )

        assert whole["meta"] == {
            "schema": 1,
            "epoch": "5f0c",
            "revision": 2,
            "environment": "production",
            "service": "checkout",
            "published_at": "second",
            "stale_after_seconds": 300,
        }

    def test_before_anything_is_published_it_is_empty_and_at_revision_0(self) -> None:
        whole = decoded()

        assert (whole["flags"], whole["dependencies"]) == ({}, {})
        assert (whole["meta"]["revision"], whole["meta"]["published_at"]) == (0, ORIGIN.since)

    def test_equal_states_give_equal_bytes_whatever_the_order_they_were_read_in(self) -> None:
        pieces = [
            USES,
            piece("setting", {"b": 1, "a": 2}, name="retry"),
            piece("setting", {"attempts": 2}, dependency="payments-api", name="retry"),
            piece("flag", FLAG, name="read-only"),
            piece("flag", FLAG, service="checkout", name="a-flag"),
        ]

        assert merged(*pieces).body == merged(*reversed(pieces)).body

    def test_the_etag_is_epoch_revision_and_digest_of_the_body(self) -> None:
        document = merged(USES)
        digest = hashlib.sha256(document.body).hexdigest()[:16]

        assert document.etag == f'"5f0c.1.{digest}"'
        assert document.event_id == "5f0c:1"

    def test_a_large_document_is_compressed_once(self) -> None:
        document = merged(piece("flag", FLAG | {"value": "x" * 9_000}, name="read-only"))

        assert document.compressed is document.compressed
        assert document.compressed is not None
        assert len(document.compressed) < 1_000
