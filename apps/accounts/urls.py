from apps.accounts import api
from apps.core.routes import route

urlpatterns = [
    route("tokens", api.TokensView.as_view(), name="tokens"),
    route("tokens/<int:token_id>", api.TokenView.as_view(), name="token"),
    route("tokens/<int:token_id>/end", api.TokenEndView.as_view(), name="token-end"),
]
