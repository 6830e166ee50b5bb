"""A trail as one HTML file: no network, no script, nothing of the data read as markup.

It is made of the same record that the other formats are made of, so that what is added to a trail
is on the page as well.
"""

import html
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from spanctl.printable import printable
from spanctl_cli.output import Column, Kind, Listing, Record, Section, text
from spanctl_cli.output.values import plain
from spanctl_cli.views.trail_css import CSS

_STANDING: Final = "_standing"
_TONES: Final = {"green": "good", "yellow": "warn", "red": "bad"}
_MARKS: Final = {"good": "✓", "warn": "!", "bad": "✗"}
_HEADS: Final = frozenset({"subject", "txn_id", "run", "name", "outcome", "state"})
_HEADS_OF_TRANSACTION: Final = frozenset({"commit_timestamp"})
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"
_LEGEND: Final = (
    "<b>proven</b>: follows from the commit itself, a signature, or the issuer's answer. "
    "<b>claimed</b>: somebody says so. <b>absent</b>: not joined to this trail."
)


def page(record: Record, *, read_at: datetime, version: str, limit: int | None = None) -> str:
    """Return the whole document.

    Args:
        record: The trail, as :func:`spanctl_cli.views.trail.record` makes it.
        read_at: When the trail was read.
        version: Of spanctl.
        limit: How many changed rows the record was limited to; None for all.
    """
    title = _title(record)
    parts = [
        "<!doctype html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_escaped(_POLICY)}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        '<meta name="referrer" content="no-referrer">',
        f"<title>{_escaped(title)}</title>",
        f"<style>{CSS}</style>",
        "</head>",
        "<body>",
        *_header(record),
        *_facts(record),
    ]
    for section in record.sections:
        parts += _section(section, record.values, limit)
    parts += [
        "<footer>",
        f"<p>{_LEGEND}</p>",
        f"<p>Read {_moment(read_at)} with spanctl {_escaped(version)}. Times are in UTC.</p>",
        "</footer>",
        "</body>",
        "</html>",
    ]
    return "\n".join(parts) + "\n"


def _escaped(value: str) -> str:
    """Return text as HTML: control and direction-changing characters shown, nothing a tag."""
    return html.escape(printable(value), quote=True)


def _moment(value: datetime) -> str:
    utc = value.astimezone(UTC)
    return f'<time datetime="{_escaped(plain(value))}">{utc:%Y-%m-%d %H:%M:%S.%f} UTC</time>'


def _title(record: Record) -> str:
    values = record.values
    word = values.get("outcome") or values.get("state") or "trail"
    return f"{plain(word)} {plain(values.get('txn_id') or values.get('run'))}"


def _tone(word: str) -> str:
    return _TONES.get(str(text(word, Kind.STATE).style), "")


def _badge(value: Any) -> str:  # noqa: ANN401 - a cell of any type
    word = plain(value)
    tone = _tone(word)
    return f'<span class="badge{" " if tone else ""}{tone}">{_escaped(word)}</span>' if word else ""


def _header(record: Record) -> Iterator[str]:
    values = record.values
    word = plain(values.get("outcome") or values.get("state"))
    tone = _tone(word)
    mark = f"{_MARKS.get(tone, '')} " if tone else ""
    name = plain(values.get("name"))
    yield "<header>"
    yield f'<p class="kicker">spanctl trail of one {_escaped(plain(values.get("subject")))}</p>'
    headline = " ".join(part for part in (word.replace("_", " "), name) if part) or "run"
    yield f'<h1><span class="{tone}">{_escaped(f"{mark}{headline}")}</span></h1>'
    if isinstance(committed := values.get("commit_timestamp"), datetime):
        yield f'<p class="when">{_moment(committed)}</p>'
    identifier = plain(values.get("txn_id") or values.get("run"))
    yield f'<p class="id">{_escaped(identifier)}</p>'
    yield "</header>"


def _facts(record: Record) -> Iterator[str]:
    values = record.values
    named = {column.key for column in record.columns}
    yield "<dl>"
    for column in record.columns:
        key = column.key
        base = key.removesuffix(_STANDING)
        in_head = key in _HEADS or ("txn_id" in named and key in _HEADS_OF_TRANSACTION)
        if column.extra or in_head or (base != key and base in named):
            continue
        if cell := _cell(values.get(key), column.kind):
            standing = values.get(f"{key}{_STANDING}")
            badge = f" {_badge(standing)}" if standing else ""
            yield f"<dt>{_escaped(column.heading)}</dt><dd>{cell}{badge}</dd>"
    yield "</dl>"


def _cell(value: Any, kind: Kind) -> str:  # noqa: ANN401, PLR0911 - one branch a type
    """Return a value as HTML; empty for nothing."""
    if isinstance(value, datetime):
        return _moment(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and kind is Kind.NUMBER:
        return f"{value:,}"
    if isinstance(value, list | tuple) and all(isinstance(one, str) for one in value):
        return _escaped(", ".join(value))
    words = plain(value)
    if not words:
        return ""
    if kind is Kind.STATE:
        return _badge(value)
    return f"<code>{_escaped(words)}</code>" if kind is Kind.ID else _escaped(words)


# -- sections


def _section(section: Section, values: Mapping[str, Any], limit: int | None) -> Iterator[str]:
    content = section.content
    if not isinstance(content, Listing):
        yield f"<section><h2>{_escaped(section.title)}</h2>"
        yield from _facts(content)
        yield "</section>"
        return
    rows = list(content.rows)
    if section.key == "next" and not rows:
        return
    yield f'<section id="{_escaped(section.key)}"><h2>{_escaped(section.title)}</h2>'
    if not rows:
        unknown = section.key == "rows" and values.get("rows_changed")
        said = "not known: see the change stream among the sources" if unknown else "none"
        yield f'<p class="none">{said}</p>'
    elif section.key == "next":
        yield from (
            f"<pre><code>{_escaped(plain(row.get('command')))}</code></pre>" for row in rows
        )
    elif section.key == "rows":
        yield from _changed(rows, limit)
    else:
        yield from _table(content.columns, rows)
    yield "</section>"


def _table(columns: Sequence[Column], rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield a table, its empty columns left out."""
    shown = [
        column
        for column in columns
        if not column.extra and any(plain(row.get(column.key)) for row in rows)
    ]
    heads = "".join(f"<th{_class(one.kind)}>{_escaped(one.heading)}</th>" for one in shown)
    yield f"<table><thead><tr>{heads}</tr></thead><tbody>"
    for row in rows:
        cells = "".join(
            f'<td{_class(one.kind)} data-label="{_escaped(one.heading)}">{cell}</td>'
            if (cell := _cell(row.get(one.key), one.kind))
            else "<td></td>"
            for one in shown
        )
        yield f"<tr>{cells}</tr>"
    yield "</tbody></table>"


def _class(kind: Kind) -> str:
    return f' class="{kind.value}"' if kind in {Kind.NUMBER, Kind.ID} else ""


def _changed(rows: Sequence[Mapping[str, Any]], limit: int | None) -> Iterator[str]:
    """Yield each changed row: its key, and its columns before and after."""
    if limit is not None and len(rows) == limit:
        yield f'<p class="note">the first {limit:,} of them</p>'
    last = None
    for row in rows:
        before, after = row.get("before"), row.get("after")
        if (txn_id := row.get("txn_id")) and txn_id != last:
            yield f'<p class="note">transaction <code>{_escaped(txn_id)}</code></p>'
            last = txn_id
        keys = ", ".join(
            f"{name}={_data(value)}" for name, value in (row.get("keys") or {}).items()
        )
        change = plain(row.get("change"))
        tone = {"INSERT": "good", "UPDATE": "warn", "DELETE": "bad"}.get(change, "")
        yield f"<h3>{_escaped(plain(row.get('table')))} <code>{_escaped(keys)}</code> "
        yield f'<span class="badge {tone}">{_escaped(change.lower())}</span></h3>'
        yield '<table class="diff"><thead><tr><th>column</th><th>before</th><th>after</th></tr>'
        yield "</thead><tbody>"
        yield from _columns(before, after)
        yield "</tbody></table>"


def _columns(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> Iterable[str]:
    for name in dict.fromkeys([*(before or {}), *(after or {})]):
        old = _data(before[name]) if before and name in before else None
        new = _data(after[name]) if after and name in after else None
        same = old == new or (before and after and new is None)
        kind = ' class="same"' if same else ""
        yield (
            f'<tr{kind}><td data-label="column">{_escaped(name)}</td>'
            f"{_side('before', old, None if same else 'del')}"
            f"{_side('after', old if same else new, None if same else 'ins')}</tr>"
        )


def _side(label: str, value: str | None, tag: str | None) -> str:
    if value is None:
        return "<td></td>"
    shown = f"<{tag}>{_escaped(value)}</{tag}>" if tag else _escaped(value)
    return f'<td data-label="{label}">{shown}</td>'


def _data(value: Any) -> str:  # noqa: ANN401 - JSON of any type
    if value is None:
        return "NULL"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
