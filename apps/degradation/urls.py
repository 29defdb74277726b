from apps.core.routes import route
from apps.degradation import api

urlpatterns = [
    route("flags", api.FlagsView.as_view(), name="flags"),
    route("flags/impact", api.ScopeImpactView.as_view(), name="flags-impact"),
    route("flags/<int:flag_id>", api.FlagView.as_view(), name="flag"),
    route("flags/<int:flag_id>/engage", api.FlagEngageView.as_view(), name="flag-engage"),
    route("flags/<int:flag_id>/extend", api.FlagExtendView.as_view(), name="flag-extend"),
    route("flags/<int:flag_id>/end", api.FlagEndView.as_view(), name="flag-end"),
    route("flags/<int:flag_id>/impact", api.FlagImpactView.as_view(), name="flag-impact"),
]
