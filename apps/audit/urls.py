from apps.audit import api
from apps.core.routes import route

urlpatterns = [
    route("audit", api.EntriesView.as_view(), name="audit"),
    route("audit/verify", api.VerifyView.as_view(), name="audit-verify"),
    route("audit/<uuid:entry_id>", api.EntryView.as_view(), name="audit-entry"),
]
