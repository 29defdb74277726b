"""The pages of the manual agree with the code they tell of, and their links lead somewhere."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.spec import ACTIVE_PATTERNS, PATTERNS
from holdfast.spec.markdown import COLUMNS, line, table_rows
from holdfast.testing import LocalHoldfast

ROOT = Path(__file__).resolve().parent.parent
PAGES = ROOT / "docs" / "patterns"
HEAD = (*COLUMNS, "source")
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
LINK = re.compile(r"\]\(([^)\s]+)\)")

each_pattern = pytest.mark.parametrize("pattern", PATTERNS)
each_document = pytest.mark.parametrize(
    "document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT))
)


def page_of(pattern: str) -> str:
    return (PAGES / f"{pattern.replace('_', '-')}.md").read_text(encoding="utf-8")


def tables(page: str, *head: str) -> Iterator[tuple[str, ...]]:
    """The rows of every table with this head."""
    start = f"{line(head)}\n"
    for part in page.split(start)[1:]:
        body = part.partition("\n\n")[0].splitlines()[1:]
        yield from (tuple(cell.strip() for cell in row.strip("|").split("|")) for row in body)


def code_of(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page, re.DOTALL)


def first_cells(pattern: str, *head: str) -> list[str]:
    """The names in the first cells of the tables with this head."""
    rows = tables(page_of(pattern), *head)
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row[0])]


def code_words() -> set[str]:
    """Every word the SDK's code has between quotes."""
    source = ROOT / "sdk" / "src" / "holdfast"
    text = "".join(path.read_text(encoding="utf-8") for path in source.glob("*.py"))
    return set(re.findall(r'"([a-z_.]+)"', text))


def anchors_of(document: Path) -> set[str]:
    """The anchors of a document's headings, as renderers of Markdown make them."""
    text = re.sub(r"```.*?```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


class TestPatterns:
    def test_each_has_its_page_and_no_page_is_left_over(self) -> None:
        pages = {path.stem.replace("-", "_") for path in PAGES.glob("*.md")} - {"README"}

        assert pages == set(PATTERNS)

    @each_pattern
    def test_the_table_of_settings_is_that_of_the_specification(self, pattern: str) -> None:
        rows = list(tables(page_of(pattern), *HEAD))

        assert [row[:-1] for row in rows] == list(table_rows(pattern))
        assert all(row[-1] for row in rows), "each choice has its source"

    @each_pattern
    def test_the_example_runs(self, pattern: str) -> None:
        (example,) = code_of(page_of(pattern))

        assert "assert " in example
        exec(compile(example, f"{pattern}.md", "exec"), {"__name__": pattern})

    @each_pattern
    def test_the_counters_it_names_exist(self, pattern: str) -> None:
        counted = LocalHoldfast().dependency("api").stats()

        named = [name.partition(".") for name in first_cells(pattern, "counter", "counts")]

        assert {first for first, dot, _ in named if not dot} <= counted.keys() | code_words()
        assert all(second in counted[first] for first, dot, second in named if dot)
        assert bool(named) is (pattern in ACTIVE_PATTERNS)

    @each_pattern
    def test_the_events_it_names_exist(self, pattern: str) -> None:
        named = first_cells(pattern, "event", "data")

        assert set(named) <= code_words()
        assert bool(named) is (pattern in ACTIVE_PATTERNS and pattern != "timeout")

    @each_pattern
    def test_it_says_whether_anything_acts_on_it(self, pattern: str) -> None:
        assert ("**Not in force yet.**" in page_of(pattern)) is (pattern not in ACTIVE_PATTERNS)


class TestLinks:
    @each_document
    def test_every_link_leads_somewhere(self, document: Path) -> None:
        for link in LINK.findall(document.read_text(encoding="utf-8")):
            if ":" in link:
                continue
            path, _, anchor = link.partition("#")
            target = (document.parent / path).resolve() if path else document
            assert target.exists(), link
            assert not anchor or anchor in anchors_of(target), link
