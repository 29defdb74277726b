"""Passwords at rest."""

import pytest
from django.test import override_settings

from apps.core.sealing import CannotOpen, seal, unseal


def test_what_is_sealed_shows_nothing_and_opens_again() -> None:
    sealed = seal("s3cret")

    assert "s3cret" not in sealed
    assert unseal(sealed) == "s3cret"


def test_nothing_stays_nothing() -> None:
    assert seal("") == ""
    assert unseal("") == ""


def test_the_same_password_is_never_sealed_alike() -> None:
    assert seal("s3cret") != seal("s3cret")


def test_an_earlier_key_opens_while_it_is_a_fallback() -> None:
    with override_settings(SECRET_KEY="earlier"):
        sealed = seal("s3cret")

    with override_settings(SECRET_KEY="later", SECRET_KEY_FALLBACKS=["earlier"]):
        assert unseal(sealed) == "s3cret"


def test_a_lost_key_is_said_not_guessed() -> None:
    with override_settings(SECRET_KEY="earlier"):
        sealed = seal("s3cret")

    with override_settings(SECRET_KEY="later"), pytest.raises(CannotOpen):
        unseal(sealed)
