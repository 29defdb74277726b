"""Audit review in the console."""

import pytest
from django.urls import reverse

from apps.audit import triggers
from apps.audit.models import Chain, Entry
from tests import make


@pytest.mark.django_db
class TestReview:
    def test_an_entry_shows_before_and_after_and_its_place(self) -> None:
        make.engaged()
        entry = Entry.objects.get()

        page = make.browser().get(reverse("admin:audit_entry_change", args=[entry.pk]))

        text = page.content.decode()
        assert '<tr><th scope="row">enabled</th><td>false</td><td>true</td></tr>' in text
        assert f"entry 1 of {entry.chain.name}" in text
        assert reverse("admin:audit_chain_change", args=[entry.chain_id]) in text

    def test_what_people_wrote_is_shown_as_text(self) -> None:
        flag = make.flag(kind="custom", value="<script>alert(1)</script>")
        make.browser().post(
            reverse("admin:degradation_flag_delete", args=[flag.pk]), {"version": flag.version}
        )
        entry = Entry.objects.get(action="flag.deleted")

        page = make.browser().get(reverse("admin:audit_entry_change", args=[entry.pk]))

        assert "<script>alert(1)</script>" not in page.content.decode()
        assert "&lt;script&gt;alert(1)" in page.content.decode()

    def test_the_list_is_searched_and_filtered(self) -> None:
        flag = make.engaged(key="simple-replies")
        make.engaged(key="other")
        client = make.browser()
        address = reverse("admin:audit_entry_changelist")

        found = client.get(f"{address}?q=simple-replies").content.decode()
        about = client.get(f"{address}?object_type=flag&object_id={flag.pk}").content.decode()

        assert ("flag simple-replies" in found, "flag other" in found) == (True, False)
        assert ("flag simple-replies" in about, "flag other" in about) == (True, False)

    def test_a_filter_no_column_can_hold_is_not_found(self) -> None:
        answer = make.browser().get(f"{reverse('admin:audit_entry_changelist')}?object_id=%00")

        assert answer.status_code == 404

    def test_a_member_sees_the_entries_of_their_environments(self) -> None:
        flag = make.engaged(key="mine")
        make.engaged(key="theirs")
        client = make.browser(make.member(flag.environment, "viewer"))

        text = client.get(reverse("admin:audit_entry_changelist")).content.decode()

        assert ("flag mine" in text, "flag theirs" in text) == (True, False)


@pytest.mark.django_db
class TestChainPage:
    def test_says_that_it_holds(self) -> None:
        flag = make.engaged()
        chain = Chain.objects.get(environment_id=flag.environment_id)

        page = make.browser().get(reverse("admin:audit_chain_change", args=[chain.pk]))

        assert "holds, 1 entries" in page.content.decode()

    def test_names_the_entry_that_broke(self) -> None:
        flag = make.engaged()
        chain = Chain.objects.get(environment_id=flag.environment_id)
        with triggers.lifted():
            Entry.objects.update(reason="other")

        page = make.browser().get(reverse("admin:audit_chain_change", args=[chain.pk]))

        assert "BROKEN at entry 1" in page.content.decode()
