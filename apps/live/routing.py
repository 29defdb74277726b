"""The sockets of the server: `/ws/wall/`."""

from channels.auth import AuthMiddlewareStack
from channels.routing import URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from django.urls import re_path

from apps.live.consumers import Wall

# Only pages of this server may open them: a browser sends its cookies along from anywhere.
websockets = AllowedHostsOriginValidator(
    AuthMiddlewareStack(URLRouter([re_path(r"^ws/wall/?$", Wall.as_asgi())]))
)
