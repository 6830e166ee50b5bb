"""The page of HTML that ``spanctl audit ID -o html`` writes: whole, alone, data as text."""

import os
import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Final

import pytest

from spanctl.errors import SpanctlError
from spanctl.settings import state_home
from spanctl_cli import pages
from spanctl_cli.output import Record
from spanctl_cli.views.trail import record
from spanctl_cli.views.trail_html import page
from tests.cli.trails import HOSTILE, run_trail, transaction_trail

GOLDEN: Final = Path(__file__).with_name("golden")
READ_AT: Final = datetime(2026, 1, 31, 9, 0, tzinfo=UTC)
VOID: Final = {"meta", "br", "hr"}
UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Page(HTMLParser):
    """A page, read strictly: tags are closed in order, and nothing but text is in them."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return "".join(self.words)


def made(found: Record, limit: int | None = None) -> str:
    return page(found, read_at=READ_AT, version="0.0.0", limit=limit)


@pytest.fixture(params=["transaction", "run"])
def trail(request: pytest.FixtureRequest) -> Record:
    build: Any = {"transaction": transaction_trail, "run": run_trail}[request.param]
    return record(build(), None)


def test_it_needs_nothing_but_itself(trail: Record) -> None:
    """No script, link, image, font or address: a policy forbids them, and none is there."""
    text = made(trail)
    read = Page(text)
    loading = {"script", "link", "img", "iframe", "object", "embed", "form", "a", "svg", "base"}
    assert read.tags & loading == set()
    names = {name for _, name, _ in read.attributes}
    assert names <= {
        "charset",
        "class",
        "content",
        "data-label",
        "datetime",
        "http-equiv",
        "id",
        "lang",
        "name",
    }
    policy = [value for _, _, value in read.attributes if "default-src" in value]
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'"]
    style = text.partition("<style>")[2].partition("</style>")[0]
    assert not re.search(r"url\(|@import|//", style)
    assert {"prefers-color-scheme:dark", "@media print"} <= set(
        re.findall(r"prefers-color-scheme:dark|@media print", style)
    )


def test_data_is_never_markup(trail: Record) -> None:
    """Tags, quotes, entities, control and direction-changing characters stay text."""
    text = made(trail)
    read = Page(text)
    assert "<script>alert" not in text
    assert "<script>alert(1)</script>" in read.text
    assert '"><img src=x onerror=1>' in read.text
    assert "&amp;lt;" in text
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)
    assert "\\u202e" in text


def test_every_id_is_whole(trail: Record) -> None:
    """Each id of the record is on the page, as it is."""
    told = set(UUID.findall(Page(made(trail)).text))
    values = [trail.values, *(row for part in trail.sections for row in part.content.rows)]
    wanted = {
        one
        for row in values
        for key, value in row.items()
        for one in UUID.findall(str(value))
        if key not in {"arguments_digest", "result"}
    }
    assert wanted
    assert wanted <= told


def test_it_says_what_the_table_says() -> None:
    """Standing of each principal, coverage and link of each source, rows before and after."""
    text = Page(made(record(transaction_trail(), None))).text
    for word in ("COMMITTED", "proven", "claimed", "present", "unsupported", "anna@example.com"):
        assert word in text
    for value in ("120", "130", "NULL", "Zoë"):
        assert value in text
    assert "2026-01-31 08:00:00.123456 UTC" in text


def test_a_limit_of_rows_is_said() -> None:
    """Nothing is left out in silence."""
    text = Page(made(record(transaction_trail(), 1), limit=1)).text
    assert "the first 1 of them" in text
    assert "130" in text


def test_rows_that_are_not_known_are_not_none() -> None:
    """Where the stream could not be asked, the page says so."""
    blind = replace(transaction_trail(), changes=None)
    assert "not known: see the change stream" in Page(made(record(blind, None))).text


@pytest.mark.parametrize("name", ["transaction", "run"])
def test_golden(name: str, request: pytest.FixtureRequest) -> None:
    """The bytes are those that were looked at; RENEW_GOLDEN=1 writes them anew."""
    found = {"transaction": transaction_trail, "run": run_trail}[name]()
    text = made(record(found, None))
    path = GOLDEN / f"trail-{name}.html"
    if os.environ.get("RENEW_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), request.node.name


def test_hostile_words_are_in_the_example() -> None:
    """The example really holds what the tests look for."""
    assert "<script>" in HOSTILE
    assert "\u202e" in HOSTILE


# -- files


def test_a_page_is_for_its_owner(tmp_path: Path) -> None:
    """It is written whole, readable by its owner alone, also over one that was not."""
    path = tmp_path / "trail.html"
    path.write_text("old")
    path.chmod(0o644)
    assert pages.save(path, "new é") == path.resolve()
    assert path.read_text(encoding="utf-8") == "new é"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in tmp_path.iterdir()] == ["trail.html"]


def test_a_page_that_cant_be_written(tmp_path: Path) -> None:
    """It is told, and nothing is left behind."""
    with pytest.raises(SpanctlError, match="can't write"):
        pages.save(tmp_path / "nowhere" / "trail.html", "text")
    assert list(tmp_path.iterdir()) == []


def test_where_pages_are_kept() -> None:
    """Below the state, in a folder of its owner."""
    path = pages.kept("an-id")
    assert path == state_home() / "pages" / "an-id.html"
    assert path.parent.stat().st_mode & 0o077 == 0
