"""Findings as the API tells them."""

from collections.abc import Iterable, Sequence
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.response import Response

from apps.policies.rules import Calls, Finding
from apps.policies.wording import CODES, words_of

MOST_FINDINGS = 50  # in one answer, refusals first
MOST_CALLS = 20  # named of one finding or change; the rest is counted


def each_as(shape: type[serializers.Serializer[Any]], rows: Iterable[Any]) -> list[Any]:
    """Each of the rows in that shape."""
    one = shape()
    return [one.to_representation(row) for row in rows]


def told(findings: Sequence[Finding]) -> list[Any]:
    """The first of the findings, as an answer carries them."""
    return each_as(FindingOut, findings[:MOST_FINDINGS])


def planned(findings: Sequence[Finding]) -> Response:
    """The answer to a dry run that says what would be dangerous."""
    is_allowed = all(each.severity != "refusal" for each in findings)
    shown = each_as(PlannedFindingOut, findings[:MOST_FINDINGS])
    return Response({"is_allowed": is_allowed, "findings": shown})


class CallsOut(serializers.Serializer[Calls]):
    service = serializers.SerializerMethodField(help_text="Slug; null: every service.")
    dependency = serializers.SerializerMethodField(help_text="Slug; null: every dependency.")

    def get_service(self, calls: Calls) -> str | None:
        return calls.service or None

    def get_dependency(self, calls: Calls) -> str | None:
        return calls.dependency or None


class FindingOut(serializers.Serializer[Finding]):
    """One danger in settings that are each allowed."""

    code = serializers.ChoiceField(CODES, source="hazard.code")
    severity = serializers.ChoiceField(
        ["warning", "refusal"], help_text="refusal: such settings are not published."
    )
    detail = serializers.SerializerMethodField(help_text="What is dangerous, with its figures.")
    remedy = serializers.SerializerMethodField(help_text="What can be changed.")
    settings = serializers.ListField(
        child=serializers.CharField(), source="hazard.settings", help_text="By their full names."
    )
    calls = serializers.SerializerMethodField(
        help_text=f"Whose calls it concerns, sorted; at most {MOST_CALLS}."
    )
    more = serializers.SerializerMethodField(help_text="How many others it concerns.")

    def get_detail(self, finding: Finding) -> str:
        return words_of(finding).detail

    def get_remedy(self, finding: Finding) -> str:
        return words_of(finding).remedy

    @extend_schema_field(CallsOut(many=True))
    def get_calls(self, finding: Finding) -> Any:
        return each_as(CallsOut, finding.calls[:MOST_CALLS])

    def get_more(self, finding: Finding) -> int:
        return max(0, len(finding.calls) - MOST_CALLS)


class PlannedFindingOut(FindingOut):
    is_new = serializers.BooleanField(
        help_text="Whether it is not dangerous already, for some of these calls."
    )


class DryRunOut(serializers.Serializer[Any]):
    """What would be dangerous about a change; nothing of it has been done."""

    is_allowed = serializers.BooleanField(help_text="Whether the change would be published.")
    findings = PlannedFindingOut(many=True, help_text=f"Refusals first; at most {MOST_FINDINGS}.")
