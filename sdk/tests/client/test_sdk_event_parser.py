"""Server-sent events by the WHATWG rules, whatever the cuts between chunks."""

import pytest

from holdfast._stream_parser import Event, EventParser, StreamBroken


def parse(*chunks: bytes, max_bytes: int = 1_000) -> list[Event]:
    parser = EventParser(max_bytes)
    return [event for chunk in chunks for event in parser.feed(chunk)]


def bytewise(text: bytes) -> list[bytes]:
    return [text[index : index + 1] for index in range(len(text))]


class TestFields:
    def test_an_event_has_name_data_and_id(self) -> None:
        events = parse(b"event: changed\nid: e:7\ndata: {}\n\n")

        assert events == [Event("changed", "{}", "e:7")]

    def test_data_lines_are_joined_by_newlines(self) -> None:
        assert parse(b"data: a\ndata: b\n\n") == [Event("message", "a\nb", "")]

    def test_only_one_space_after_the_colon_is_dropped(self) -> None:
        assert parse(b"data:  a\n\n")[0].data == " a"

    def test_a_field_without_colon_has_an_empty_value(self) -> None:
        assert parse(b"data\n\n") == [Event("message", "", "")]

    def test_comments_and_unknown_fields_are_ignored(self) -> None:
        assert parse(b": keep-alive\nflavour: salty\n\n") == []

    def test_an_event_without_data_is_none_and_its_name_is_forgotten(self) -> None:
        assert parse(b"event: hello\n\ndata: x\n\n") == [Event("message", "x", "")]

    def test_the_id_stays_for_later_events(self) -> None:
        events = parse(b"id: 1\ndata: a\n\ndata: b\n\n")

        assert [event.id for event in events] == ["1", "1"]

    def test_an_id_with_nul_is_ignored(self) -> None:
        assert parse(b"id: a\0b\ndata: x\n\n")[0].id == ""

    def test_an_unfinished_event_is_never_dispatched(self) -> None:
        assert parse(b"data: half") == []


class TestLineEnds:
    @pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
    def test_every_line_end_counts_once(self, end: bytes) -> None:
        text = b"data: a" + end + b"data: b" + end + end + b"data: c" + end + end

        assert [event.data for event in parse(*bytewise(text))] == ["a\nb", "c"]

    def test_a_pair_cut_in_two_is_one_line_end(self) -> None:
        assert parse(b"data: a\r", b"\ndata: b\r", b"\n\r", b"\n")[0].data == "a\nb"

    def test_a_blank_line_after_a_cut_pair_still_ends_the_event(self) -> None:
        assert [event.data for event in parse(b"data: a\r", b"\n", b"\n")] == ["a"]

    def test_a_byte_order_mark_is_skipped(self) -> None:
        assert parse(b"\xef\xbb\xbfdata: a\n\n")[0].data == "a"

    def test_characters_cut_in_two_are_whole_again(self) -> None:
        assert parse(*bytewise("data: grün\n\n".encode()))[0].data == "grün"


class TestRetry:
    @pytest.mark.parametrize(("text", "seconds"), [("2000", 2.0), ("99999999999", 3600.0)])
    def test_reconnection_time_is_in_milliseconds_and_bounded(
        self, text: str, seconds: float
    ) -> None:
        parser = EventParser(1_000)

        list(parser.feed(f"retry: {text}\n".encode()))

        assert parser.retry_seconds == seconds

    @pytest.mark.parametrize("text", ["", "-1", "1.5", "soon", "²"])
    def test_nonsense_is_ignored(self, text: str) -> None:
        parser = EventParser(1_000)

        list(parser.feed(f"retry: {text}\n".encode()))

        assert parser.retry_seconds is None


class TestLimits:
    def test_a_line_without_end_does_not_fill_the_memory(self) -> None:
        with pytest.raises(StreamBroken, match="line too long"):
            parse(b"data: ", *[b"x" * 300] * 4)

    def test_an_event_without_end_does_not_fill_the_memory(self) -> None:
        with pytest.raises(StreamBroken, match="event too long"):
            parse(*[b"data: " + b"x" * 300 + b"\n"] * 4)

    def test_what_is_not_utf8_is_no_event_stream(self) -> None:
        with pytest.raises(StreamBroken, match="UTF-8"):
            parse(b"data: \xff\n\n")
