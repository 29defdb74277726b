"""The OpenAPI document, which says the same to everybody: made once, as it takes seconds."""

from functools import cache
from typing import Any

from django.http import HttpResponse
from django.utils.translation import get_language
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.renderers import OpenApiJsonRenderer, OpenApiYamlRenderer
from drf_spectacular.utils import extend_schema
from drf_spectacular.views import SpectacularAPIView
from rest_framework.request import Request

RENDERERS = {"json": OpenApiJsonRenderer, "yaml": OpenApiYamlRenderer}


class DocumentView(SpectacularAPIView):
    """The whole API, as JSON or YAML."""

    @extend_schema(exclude=True)
    def get(self, request: Request, *_args: Any, **_kwargs: Any) -> HttpResponse:
        wanted = request.accepted_renderer
        return HttpResponse(
            document(wanted.format, get_language()),
            content_type=wanted.media_type,
            headers={"Content-Disposition": f'inline; filename="Holdfast.{wanted.format}"'},
        )


@cache
def document(name: str, language: str | None) -> str | bytes:
    """In the format of that name; `language` is the active one, in which its descriptions are."""
    schema = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]  # untyped library
    return RENDERERS[name]().render(schema, renderer_context={})
