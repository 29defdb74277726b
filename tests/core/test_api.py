"""What every API view is made of: bodies, versions, refusals, routes."""

from io import BytesIO
from typing import Any

import pytest
from django.core.exceptions import PermissionDenied
from django.http import Http404
from rest_framework import exceptions, serializers
from rest_framework.request import Request
from rest_framework.test import APIRequestFactory

from apps.core import problems
from apps.core.api import Number, Strict, if_match, query, valid
from apps.core.errors import (
    Conflict,
    DomainError,
    Forbidden,
    NotFound,
    PreconditionRequired,
    RuleBroken,
    Stale,
    TooLarge,
)
from apps.core.headers import policy_for
from apps.core.parsers import MAX_BODY, StrictJSONParser
from apps.core.routes import route


def request(path: str = "/", **headers: str) -> Request:
    return Request(APIRequestFactory().get(path, headers=headers))


class TestIfMatch:
    @pytest.mark.parametrize(
        ("given", "version"), [('"3"', 3), ('W/"3"', 3), (' "12" ', 12), ('"0"', 0)]
    )
    def test_is_read(self, given: str, version: int) -> None:
        assert if_match(request(**{"If-Match": given})) == version

    @pytest.mark.parametrize("given", ["", " "])
    def test_missing_is_428(self, given: str) -> None:
        with pytest.raises(PreconditionRequired):
            if_match(request(**{"If-Match": given}))

    @pytest.mark.parametrize(
        "given", ["3", "*", '"a"', '"-1"', '"1", "2"', '"1234567890"', '"3"x', '"' + "9" * 10_000]
    )
    def test_anything_else_is_400(self, given: str) -> None:
        with pytest.raises(RuleBroken):
            if_match(request(**{"If-Match": given}))


class TestParser:
    def parse(self, body: bytes) -> Any:
        return StrictJSONParser().parse(BytesIO(body))

    def test_reads_json(self) -> None:
        assert self.parse(b'{"a": [1, 2.5, null, true, "\xc3\xa4"]}') == {
            "a": [1, 2.5, None, True, "ä"]
        }

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"{",
            b"{}{}",
            b"{'a': 1}",
            b'{"a": NaN}',
            b'{"a": -Infinity}',
            b'{"a": "\\u0000"}',
            b'{"a": "\x00"}',
            b'{"a": "\xff"}',
            b'{"a": 1e400}',
            b'{"a": ' + b"9" * 1_000_000 + b"}",
            b"[" * 100_000,
            b"[" * 100_000 + b"]" * 100_000,
            b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
        ],
        ids=range(14),
    )
    def test_what_is_no_strict_json_is_400(self, body: bytes) -> None:
        with pytest.raises(exceptions.ParseError):
            self.parse(body)

    def test_over_the_limit_is_413(self) -> None:
        with pytest.raises(TooLarge):
            self.parse(b'"' + b"a" * MAX_BODY + b'"')


class Shape(Strict):
    name = serializers.CharField(required=False)
    share = Number(required=False)


class TestStrict:
    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({"nmae": "x"}, "nmae"),
            ({"name": 5}, "name"),
            ({"name": True}, "name"),
            ({"name": "a\0b"}, "name"),
            ({"name": ["x"]}, "name"),
            ({"share": "0.5"}, "share"),
            ({"share": True}, "share"),
            ([], "non_field_errors"),
            (None, "non_field_errors"),
        ],
    )
    def test_names_what_is_wrong(self, body: Any, field: str) -> None:
        with pytest.raises(exceptions.ValidationError) as refused:
            valid(Shape, body)

        assert field in problems.flatten(refused.value.detail)

    def test_a_parameter_nobody_knows_is_refused(self) -> None:
        with pytest.raises(exceptions.ValidationError):
            query(Shape, request("/?nmae=x"))

    def test_parameters_of_every_list_are_known(self) -> None:
        found = query(Shape, request("/?name=x&environment=e&limit=5&cursor=c"))

        assert found == {"name": "x"}


class TestProblems:
    @pytest.mark.parametrize(
        ("error", "status", "code"),
        [
            (RuleBroken("no"), 400, "invalid"),
            (Forbidden("no"), 403, "forbidden"),
            (NotFound("no"), 404, "not_found"),
            (Conflict("no"), 409, "conflict"),
            (Stale("no"), 412, "stale"),
            (TooLarge("no"), 413, "too_large"),
            (PreconditionRequired("no"), 428, "precondition_required"),
            (Conflict("no", code="exists"), 409, "exists"),
            (Http404(), 404, "not_found"),
            (PermissionDenied(), 403, "forbidden"),
            (exceptions.NotAuthenticated(), 401, "not_authenticated"),
            (exceptions.MethodNotAllowed("PUT"), 405, "method_not_allowed"),
            (exceptions.UnsupportedMediaType("x"), 415, "unsupported_media_type"),
            (exceptions.ValidationError({"a": ["b"]}), 400, "invalid"),
        ],
        ids=lambda each: type(each).__name__ if isinstance(each, Exception) else str(each),
    )
    def test_every_refusal_is_one(self, error: Exception, status: int, code: str) -> None:
        answer = problems.handler(error, {"view": None})

        assert answer is not None
        assert (answer.status_code, answer.content_type) == (status, problems.CONTENT_TYPE)
        assert (answer.data["status"], answer.data["code"]) == (status, code)
        assert set(answer.data) >= {"type", "title", "status", "detail", "code"}

    def test_a_bug_stays_a_bug(self) -> None:
        assert problems.handler(KeyError("x"), {"view": None}) is None

    def test_errors_are_told_by_field(self) -> None:
        error = RuleBroken("no", errors={"lease_seconds": ["Too long."]})

        answer = problems.handler(error, {"view": None})

        assert answer is not None
        assert answer.data["errors"] == {"lease_seconds": ["Too long."]}

    def test_nested_errors_get_a_dotted_path(self) -> None:
        nested = {"chain": [{}, {"kind": ["No such kind."]}], "name": ["Required."]}

        assert problems.flatten(nested) == {
            "chain.1.kind": ["No such kind."],
            "name": ["Required."],
        }

    def test_a_wait_becomes_retry_after(self) -> None:
        answer = problems.handler(exceptions.Throttled(wait=4.2), {"view": None})

        assert answer is not None
        assert answer.headers["Retry-After"] == "5"  # seconds, rounded up

    def test_every_domain_error_has_its_own_status_and_title(self) -> None:
        kinds = DomainError.__subclasses__()

        assert len({kind.code for kind in kinds}) == len(kinds)
        assert all(str(kind.title) != str(DomainError.title) for kind in kinds)


class TestRoutes:
    @pytest.mark.parametrize("path", ["flags", "flags/", "flags/3", "flags/3/"])
    def test_match_with_and_without_the_slash(self, path: str) -> None:
        routes = [route("flags", view), route("flags/<int:number>", view)]

        assert any(each.resolve(path) for each in routes)

    @pytest.mark.parametrize("path", ["flags//", "flag", "flags/x", "/flags"])
    def test_match_nothing_else(self, path: str) -> None:
        routes = [route("flags", view), route("flags/<int:number>", view)]

        assert not any(each.resolve(path) for each in routes)


def view(request: Any) -> None:
    """Never called."""


class TestContentSecurityPolicy:
    @pytest.mark.parametrize(
        ("path", "loose"),
        [
            ("/admin/", True),
            ("/api/v1/docs", True),
            ("/wall/", False),
            ("/", False),
            ("/api/v1/flags", False),
            ("/administrator", False),
        ],
    )
    def test_only_two_places_may_run_inline_scripts(self, path: str, loose: bool) -> None:
        policy = policy_for(path)

        assert ("'unsafe-inline'" in policy) is loose
        assert "object-src 'none'" in policy

    def test_only_the_console_may_evaluate(self) -> None:
        assert "'unsafe-eval'" in policy_for("/admin/")
        assert "'unsafe-eval'" not in policy_for("/api/v1/docs")

    @pytest.mark.django_db
    def test_is_on_every_answer(self, client: Any) -> None:
        for path in ("/admin/login/", "/api/v1/flags", "/nowhere"):
            assert "default-src 'self'" in client.get(path)["Content-Security-Policy"]


class TestAllowedHosts:
    @pytest.mark.parametrize(
        "path", ["/", "/admin/login/", "/api/v1/flags", "/api/v1/policies/a", "/api/v1/health/live"]
    )
    def test_another_hosts_name_is_refused_everywhere(self, client: Any, path: str) -> None:
        """Somebody's page could have its own name lead here."""
        assert client.get(path, headers={"Host": "evil.example"}).status_code == 400
