"""Flow runs on a terminal: a list that fits its width, and the page of one."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from rich.console import RenderableType
from rich.padding import Padding
from rich.text import Text

from spanctl.printable import printable
from spanctl_cli.output import Kind, text
from spanctl_cli.output.rendering import hanging, terminal_width
from spanctl_cli.output.values import age, duration
from spanctl_cli.views import pieces

_WIDE: Final = 132
_OPEN: Final = "UNKNOWN"
_SHOWN: Final = 30
_SEVERAL: Final = 2

Row = Mapping[str, Any]


def listing(rows: Sequence[Row]) -> Iterator[RenderableType]:
    """Yield flow runs, a row each; on a narrow terminal two lines each."""
    if terminal_width() >= _WIDE:
        table = pieces.grid("flow run", "state", "due", "time", "name", "runs", "tags", rigid=4)
        for row in rows:
            table.add_row(
                text(row["id"], Kind.ID),
                text(row["state"], Kind.STATE),
                age(row["due"]) if row["due"] else "-",
                _time(row),
                text(row["name"]),
                text(row["deployment"] or row["flow"]),
                text(row["tags"]),
            )
        yield table
        return
    for row in rows:
        yield pieces.whole(text(row["id"], Kind.ID))
        line = Text("  ").append_text(text(row["state"], Kind.STATE))
        line.append(f"  {age(row['due'])}" if row["due"] else "")
        line.append(f"  {_time(row)}" if row["seconds"] is not None else "")
        yield pieces.whole(line)
        told = "  ".join(filter(None, (row["deployment"] or row["flow"], row["name"])))
        yield Padding(Text(printable(told), style="dim"), (0, 0, 0, 2), expand=False)


def page(
    values: Row, tasks: Sequence[Row], children: Sequence[Row], transactions: Sequence[Row]
) -> Iterator[RenderableType]:
    """Yield one flow run: how it is, what it belongs to, its steps and what they did."""
    headline = text(values["state"], Kind.STATE).append("  ", style="default")
    headline.append(printable(str(values["name"])), style="bold default")
    yield pieces.whole(headline)
    yield pieces.whole(Text("  ").append_text(text(values["id"], Kind.ID)))
    yield Text("")
    yield from _facts(values)
    if tasks:
        yield pieces.heading("Task runs", f"{len(tasks):,}")
        yield from _entries(tasks, _task)
    if children:
        yield pieces.heading("Subflow runs", f"{len(children):,}")
        yield from _entries(children, _child)
    yield pieces.heading("Transactions", str(values["ledger"]))
    yield from _entries(_placed(transactions), _transaction)


def _facts(values: Row) -> Iterator[RenderableType]:
    told = {
        "deployment": text(values["deployment"]) if values["deployment"] else None,
        "flow": text(values["flow"]),
        "due": text(values["due"], Kind.TIME) if values["due"] else None,
        "started": text(values["started"], Kind.TIME) if values["started"] else None,
        "ended": text(values["ended"], Kind.TIME) if values["ended"] else None,
        "time": Text(_time(values)) if values["seconds"] is not None else None,
        "attempts": text(values["attempts"], Kind.NUMBER),
        "parameters": text(values["parameters"]) if values["parameters"] else None,
        "tags": text(values["tags"]) if values["tags"] else None,
        "asked by": text(values["initiator"]) if values["initiator"] else None,
        "reason": text(values["reason"]) if values["reason"] else None,
        "message": text(values["message"]) if values["message"] else None,
    }
    for name, value in told.items():
        if value is not None:
            label = Text(f"  {name.ljust(12)}", style="dim")
            line = pieces.whole(Text().append_text(label).append_text(value))
            yield hanging(label, value, terminal_width()) or line


def _entries(rows: Sequence[Row], told: Any) -> Iterator[RenderableType]:  # noqa: ANN401 - a function of one row
    for row in pieces.both_ends(rows, _SHOWN):
        if row is None:
            more = f"  ... {len(rows) - _SHOWN:,} more: -o json for all"
            yield pieces.whole(Text(more, style="yellow"))
            continue
        yield from told(row)


def _task(row: Row) -> Iterable[RenderableType]:
    line = (
        text(row["state"], Kind.STATE).append("  ").append(printable(row["name"]), style="default")
    )
    if (row["attempts"] or 0) > 1:
        line.append(f"  {row['attempts']} attempts", style="yellow")
    below = text(row["id"], Kind.ID)
    below.append(f"  {_time(row)}" if row["seconds"] is not None else "", style="default")
    return pieces.stacked(line, below)


def _child(row: Row) -> Iterable[RenderableType]:
    line = (
        text(row["state"], Kind.STATE).append("  ").append(printable(row["name"]), style="default")
    )
    return pieces.stacked(line, text(row["id"], Kind.ID))


def _placed(rows: Sequence[Row]) -> Sequence[Row]:
    """Say of each transaction where it is, if they aren't all in one database."""
    if len({row["database"] for row in rows}) < _SEVERAL:
        return rows
    return [
        {**row, "note": " · ".join(filter(None, (row["note"], row["database"])))} for row in rows
    ]


def _transaction(row: Row) -> Iterable[RenderableType]:
    line = (
        text(row["outcome"], Kind.STATE)
        .append("  ")
        .append(printable(row["step"]), style="default")
    )
    if row["outcome"] != _OPEN:
        line.append(f"  {pieces.count(row['rows'] or 0, 'row')}", style="default")
    line.append(f"  attempt {row['attempt']}" if (row["attempt"] or 0) > 1 else "", style="yellow")
    line.append("  replayed" if row["replayed"] else "", style="dim")
    note = Text(printable(row["note"]), style="dim") if row["note"] else Text()
    return pieces.stacked(line, text(row["txn_id"], Kind.ID), note)


def _time(row: Row) -> str:
    return "-" if row["seconds"] is None else duration(row["seconds"])
