"""People, roles and tokens in the console."""

import re

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from apps.accounts import selectors
from apps.accounts.models import ApiToken, Membership, User
from apps.audit.models import Entry
from apps.core.actor import SCOPES
from tests import make

PASSWORD = "correct horse staple"


@pytest.mark.django_db
class TestTokens:
    def test_the_token_is_shown_once_with_lines_to_copy(self) -> None:
        service = make.service(slug="checkout")
        client = make.browser()
        values = {
            "environment": service.environment_id,
            "service": service.pk,
            "name": "checkout",
            "scopes": ["policies:read", "reports:write"],
            "expires_in": "90d",
        }

        answer = client.post(reverse("admin:accounts_apitoken_new"), values)

        text = answer.content.decode()
        token = re.search(r"hf_[a-z0-9]{12}_[A-Za-z0-9]{43}", text)
        assert token is not None
        assert selectors.find_token(token.group()) == ApiToken.objects.get()
        assert f"export HOLDFAST_TOKEN={token.group()}" in text
        assert "export HOLDFAST_SERVICE=checkout" in text
        assert "no-store" in answer["Cache-Control"]
        row = ApiToken.objects.get()
        shown = client.get(reverse("admin:accounts_apitoken_change", args=[row.pk]))
        assert token.group() not in shown.content.decode()

    @pytest.mark.parametrize("lasting", ["soon", "0d", "-1d", "1" * 11])
    def test_a_time_that_is_none_is_an_error_on_the_form(self, lasting: str) -> None:
        place = make.environment()
        values = {
            "environment": place.pk,
            "name": "checkout",
            "scopes": ["policies:read"],
            "expires_in": lasting,
        }

        answer = make.browser().post(reverse("admin:accounts_apitoken_new"), values)

        assert answer.status_code == 422
        assert not ApiToken.objects.exists()

    def test_a_page_asks_once_what_one_may_do_however_many_environments(self) -> None:
        client = make.browser()
        make.environment()
        client.get(reverse("admin:accounts_apitoken_changelist"))
        with CaptureQueriesContext(connection) as few:
            client.get(reverse("admin:accounts_apitoken_changelist"))
        for _number in range(5):
            make.environment()

        with CaptureQueriesContext(connection) as many:
            client.get(reverse("admin:accounts_apitoken_changelist"))

        assert len(many) == len(few)

    def test_an_operator_has_no_business_there(self) -> None:
        row, _text = make.token()
        client = make.browser(make.member(row.environment, "operator"))

        listed = client.get(reverse("admin:accounts_apitoken_changelist"))
        made = client.get(reverse("admin:accounts_apitoken_new"))

        assert (listed.status_code, made.status_code) == (403, 403)

    def test_an_administrator_sees_those_of_their_environments(self) -> None:
        mine, _text = make.token()
        theirs, _text = make.token()
        administrator = make.member(mine.environment, "administrator")
        Membership.objects.create(user=administrator, environment=theirs.environment, role="viewer")

        text = make.browser(administrator).get(reverse("admin:accounts_apitoken_changelist"))

        assert mine.selector in text.content.decode()
        assert theirs.selector not in text.content.decode()

    def test_revoking_asks_why(self) -> None:
        row, _text = make.token()
        page = reverse("admin:accounts_apitoken_revoke", args=[row.pk])
        client = make.browser()

        silent = client.post(page, {"version": row.version, "reason": ""})
        said = client.post(page, {"version": row.version, "reason": "leaked"})

        assert (silent.status_code, said.status_code) == (422, 302)
        assert Entry.objects.get(action="token.revoked").reason == "leaked"


@pytest.mark.django_db
class TestPeople:
    def test_a_superuser_adds_somebody_and_grants_a_role(self) -> None:
        client = make.browser()
        place = make.environment()

        client.post(reverse("admin:accounts_user_new"), {"username": "ana", "password": PASSWORD})
        ana = User.objects.get(username="ana")
        client.post(
            reverse("admin:accounts_membership_new"),
            {"user": ana.pk, "environment": place.pk, "role": "operator"},
        )

        assert ana.check_password(PASSWORD)
        assert (ana.is_staff, ana.is_superuser) == (True, False)
        assert Membership.objects.get(user=ana).role == "operator"

    def test_a_weak_password_is_an_error_beside_it(self) -> None:
        answer = make.browser().post(
            reverse("admin:accounts_user_new"), {"username": "ana", "password": "password"}
        )

        assert answer.status_code == 422
        assert "too short" in answer.content.decode()
        assert not User.objects.filter(username="ana").exists()

    def test_a_role_is_changed_and_withdrawn(self) -> None:
        member = make.member(role="viewer")
        row = Membership.objects.get(user=member)
        client = make.browser()

        client.post(
            reverse("admin:accounts_membership_role", args=[row.pk]),
            {"version": row.version, "role": "administrator"},
        )
        row.refresh_from_db()
        changed = row.role
        gone = client.post(
            reverse("admin:accounts_membership_withdraw", args=[row.pk]), {"version": row.version}
        )

        assert changed == "administrator"
        assert gone["Location"] == reverse("admin:accounts_membership_changelist")
        assert not Membership.objects.exists()

    def test_an_administrator_is_no_keeper_of_people(self) -> None:
        administrator = make.member(role="administrator")
        client = make.browser(administrator)

        pages = [
            client.get(reverse("admin:accounts_user_changelist")),
            client.get(reverse("admin:accounts_user_new")),
            client.get(reverse("admin:accounts_user_deactivate", args=[administrator.pk])),
            client.get(reverse("admin:accounts_membership_changelist")),
        ]

        assert [page.status_code for page in pages] == [403, 403, 403, 403]

    def test_deactivating_oneself_is_refused_on_the_form(self) -> None:
        person = make.user(is_superuser=True)
        page = reverse("admin:accounts_user_deactivate", args=[person.pk])

        answer = make.browser(person).post(page, {})

        person.refresh_from_db()
        assert (answer.status_code, person.is_active) == (422, True)


@pytest.mark.django_db
def test_the_form_of_a_token_says_what_each_scope_is_for() -> None:
    make.environment()

    html = make.browser().get(reverse("admin:accounts_apitoken_new")).text

    assert {scope for scope in SCOPES if f"{scope} – " not in html} == set()
