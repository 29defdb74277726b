"""Which pieces of an environment make up a service's document."""

from collections.abc import Iterable
from typing import Any, Protocol, TypeVar


class FragmentLike(Protocol):
    """What is read of a fragment."""

    @property
    def part(self) -> str: ...
    @property
    def service(self) -> str: ...
    @property
    def dependency(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def revision(self) -> int: ...
    @property
    def body(self) -> Any: ...


F = TypeVar("F", bound=FragmentLike)


def uses_of(fragments: Iterable[FragmentLike], service: str) -> frozenset[str]:
    """The dependencies `service` calls, among an environment's current fragments."""
    return frozenset(
        fragment.dependency
        for fragment in fragments
        if fragment.part == "use" and fragment.service == service and fragment.body is not None
    )


def concerning(fragments: Iterable[F], service: str, uses: frozenset[str]) -> list[F]:
    """The fragments that make up the document of `service`, removed ones (body None) included.

    A removal counts too: the document's revision is the newest that changed it.
    """
    return [
        fragment
        for fragment in fragments
        if fragment.service in ("", service)
        and (fragment.dependency == "" or fragment.dependency in uses or fragment.service != "")
    ]


def document_revision(fragments: Iterable[FragmentLike], service: str) -> int:
    """The revision of the document of `service`: the newest among its fragments, 0 with none."""
    held = list(fragments)
    mine = concerning(held, service, uses_of(held, service))
    return max((fragment.revision for fragment in mine), default=0)
