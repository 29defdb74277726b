"""The epochs in the console, to be looked at."""

from django.contrib import admin

from apps.core.admin import GuardedModelAdmin
from apps.publication.models import Epoch


@admin.register(Epoch)
class EpochAdmin(GuardedModelAdmin):
    """The lines of this database's history, the one in force first."""

    list_display = ("number", "id", "started_at", "reason")
    ordering = ("-number",)
    fields = ("number", "id", "started_at", "reason")
    readonly_fields = fields
