"""JSON bodies: strict, bounded, and refused in words."""

from typing import IO, Any

import msgspec
from django.utils.translation import gettext as _
from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser

from apps.core.errors import TooLarge

MAX_BODY = 1024 * 1024  # bytes; routes that take more name a parser of their own


class StrictJSONParser(BaseParser):
    """Parse a JSON body; refuse NaN, huge numbers, deep nesting and NUL characters with a 400."""

    media_type = "application/json"
    max_body = MAX_BODY

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Any = None,
    ) -> Any:
        body = stream.read(self.max_body + 1)
        if len(body) > self.max_body:
            raise TooLarge(_("The body is over %(limit)d bytes.") % {"limit": self.max_body})
        if b"\\u0000" in body:
            raise ParseError(_("The body contains a NUL character, which no field can hold."))
        try:
            return msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ParseError(_("The body is not valid JSON: %(why)s") % {"why": error}) from error
