"""JSON bodies: strict, bounded, and refused in words."""

import zlib
from typing import IO, Any

import msgspec
from django.utils.translation import gettext as _
from rest_framework.exceptions import ParseError, UnsupportedMediaType
from rest_framework.parsers import BaseParser

from apps.core.errors import TooLarge

MAX_BODY = 1024 * 1024  # bytes; routes that take more name a parser of their own


class StrictJSONParser(BaseParser):
    """Parse a JSON body; refuse NaN, huge numbers, deep nesting and NUL characters with a 400."""

    media_type = "application/json"
    max_body = MAX_BODY
    allows_nul = False  # for those that say themselves which part of a body it spoils

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Any = None,
    ) -> Any:
        body = stream.read(self.max_body + 1)
        request = (parser_context or {}).get("request")
        encoding = request.headers.get("Content-Encoding", "") if request is not None else ""
        body = unpacked(body, encoding, limit=self.max_body)
        if b"\\u0000" in body and not self.allows_nul:
            raise ParseError(_("The body contains a NUL character, which no field can hold."))
        return self.read(body)

    def read(self, body: bytes) -> Any:
        """The value of the JSON text `body`."""
        try:
            return msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ParseError(_("The body is not valid JSON: %(why)s") % {"why": error}) from error


def unpacked(body: bytes, encoding: str, *, limit: int) -> bytes:
    """The body as it was before its Content-Encoding, which may be gzip.

    Never more than `limit` bytes come out, whatever a small body would blow up to.

    Raises:
        TooLarge: it is over `limit` bytes, packed or unpacked.
        UnsupportedMediaType: another encoding.
        ParseError: it is not gzip, or cut short.
    """
    if encoding.strip().lower() in {"gzip", "x-gzip"}:
        body = _gunzipped(body, limit + 1)
    elif encoding.strip().lower() not in {"", "identity"}:
        raise UnsupportedMediaType(encoding, _("Content-Encoding is gzip or nothing."))
    if len(body) > limit:
        raise TooLarge(_("The body is over %(limit)d bytes.") % {"limit": limit})
    return body


def _gunzipped(body: bytes, most: int) -> bytes:
    gunzip = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        text = gunzip.decompress(body, most)
    except zlib.error as error:
        raise ParseError(_("The body is not valid gzip.")) from error
    if len(text) < most and not gunzip.eof:
        raise ParseError(_("The gzip body is cut short."))
    return text
