"""What is seen of a run while it runs: on a terminal, in a pipe, as events for programs."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Protocol

from spanctl.ledger.report import TransactionReport
from spanctl.printable import printable
from spanctl_cli import talk
from spanctl_cli.output import Format, emit_event

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

EVENT: Final = "run.event"
_ROOM: Final = 40
"""Columns that an id needs; narrower terminals wrap by themselves, anywhere."""
_MARKS: Final = {"COMMITTED": "✓", "NOT_COMMITTED": "✗", "UNKNOWN": "?"}
_COLOURS: Final = {"COMMITTED": "green", "NOT_COMMITTED": "red", "UNKNOWN": "yellow"}
_LEVELS: Final = {"WARNING": "yellow", "ERROR": "red", "CRITICAL": "bold red"}


def to_event(seen: TransactionReport) -> dict[str, Any]:
    """Return what became of a transaction as an event's members."""
    return {
        "event": "transaction",
        "txn_id": seen.txn_id,
        "step": seen.step,
        "outcome": seen.told,
        "commit_timestamp": seen.commit_timestamp,
        "rows": seen.rows,
        "replayed": seen.replayed,
        "database": seen.database,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a job is.

    Attributes:
        done: Units done.
        total: Units in all.
        unit: What is counted, plural.
        rate: Units a second; None before it is known.
        left: Seconds left; None before they are known.
        doing: What is being done.
    """

    done: int
    total: int
    unit: str
    rate: float | None
    left: float | None
    doing: str


class View(Protocol):
    """Where the news of a run go.

    Attributes:
        is_for_people: Whether a person reads along, so that output of child processes may be seen.
    """

    is_for_people: bool

    def run(self, facts: Mapping[str, Any]) -> None:
        """Say which run it is."""

    def state(self, name: str) -> None:
        """Say that the run entered a state."""

    def transaction(self, seen: TransactionReport) -> None:
        """Say what came of a transaction."""

    def log(self, level: str, text: str) -> None:
        """Pass on a log line."""

    def progress(self, progress: Progress) -> None:
        """Say how far the job is."""


class Silent:
    """Nothing is shown."""

    is_for_people = False

    def run(self, facts: Mapping[str, Any]) -> None:
        """Ignore it."""

    def state(self, name: str) -> None:
        """Ignore it."""

    def transaction(self, seen: TransactionReport) -> None:
        """Ignore it."""

    def log(self, level: str, text: str) -> None:
        """Ignore it."""

    def progress(self, progress: Progress) -> None:
        """Ignore it."""


class Events(Silent):
    """One JSON line on stdout for each piece of news."""

    def __init__(self, **common: Any) -> None:  # noqa: ANN401 - JSON
        """Put these members into each of them."""
        self._common = common

    def of(self, flow_run: str) -> "Events":
        """Return events that say which of several runs they are about."""
        return Events(flow_run=flow_run)

    def run(self, facts: Mapping[str, Any]) -> None:
        """Write an event."""
        self._emit({"event": "run", **facts})

    def state(self, name: str) -> None:
        """Write an event."""
        self._emit({"event": "state", "state": name})

    def transaction(self, seen: TransactionReport) -> None:
        """Write an event."""
        self._emit(to_event(seen))

    def log(self, level: str, text: str) -> None:
        """Write an event."""
        self._emit({"event": "log", "level": level, "message": text})

    def progress(self, progress: Progress) -> None:
        """Write an event."""
        facts = {"done": progress.done, "total": progress.total, "unit": progress.unit}
        self._emit({"event": "progress", **facts})

    def _emit(self, event: Mapping[str, Any]) -> None:
        emit_event(EVENT, {**event, **self._common}, Format.JSONL)


class Labelled(Silent):
    """One of several runs, on a view that they share: each piece of news says whose it is."""

    def __init__(self, view: View, label: str) -> None:
        """Put this label before what is passed on."""
        self._view = view
        self._label = label

    def run(self, facts: Mapping[str, Any]) -> None:
        """Pass it on."""
        self._view.run(facts)

    def state(self, name: str) -> None:
        """Pass it on as a line: there are several states at a time."""
        self._view.log("INFO", f"{self._label}: {name}")

    def transaction(self, seen: TransactionReport) -> None:
        """Pass it on."""
        self._view.transaction(replace(seen, step=f"{self._label}: {seen.step}"))

    def log(self, level: str, text: str) -> None:
        """Pass it on."""
        self._view.log(level, f"{self._label}: {text}")


class _Spoken(Silent):
    """News for people: a transaction is told with its database where it is not in the first one."""

    is_for_people = True
    _home: str | None = None

    def _line(self, seen: TransactionReport) -> str:
        self._home = self._home or seen.database
        return (
            seen.line if seen.database in {None, self._home} else f"{seen.line} · {seen.database}"
        )


class Lines(_Spoken):
    """Plain lines on stderr, for logs of schedulers and pipes."""

    _every = 10.0

    def __init__(self) -> None:
        """Start with nothing said."""
        self._told = time.monotonic()

    def run(self, facts: Mapping[str, Any]) -> None:
        """Write a line."""
        talk.say(_headline(facts))

    def state(self, name: str) -> None:
        """Write a line."""
        talk.say(name)

    def transaction(self, seen: TransactionReport) -> None:
        """Write a line."""
        talk.say(self._line(seen))

    def log(self, level: str, text: str) -> None:
        """Write a line."""
        talk.say(f"{level}: {text}")

    def progress(self, progress: Progress) -> None:
        """Write a line now and then."""
        if time.monotonic() - self._told >= self._every:
            self._told = time.monotonic()
            talk.say(_measure(progress))


class Terminal(_Spoken):
    """Lines that scroll by, above one line that moves."""

    def __init__(self, console: "Console") -> None:
        """Draw on this console, once :meth:`shown` has begun."""
        from rich.live import Live

        self._console = console
        self._started = time.monotonic()
        self._name = ""
        self._state = "Starting"
        self._count = 0
        self._progress: Progress | None = None
        self._live = Live(
            get_renderable=self._render, console=console, refresh_per_second=8, transient=True
        )

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Draw while the block runs."""
        with self._live:
            yield

    def run(self, facts: Mapping[str, Any]) -> None:
        """Print which run it is."""
        self._name = str(facts.get("name") or "")
        self._print(_headline(facts), "bold")

    def state(self, name: str) -> None:
        """Change the line that moves."""
        self._state = name

    def transaction(self, seen: TransactionReport) -> None:
        """Print a line."""
        from rich.text import Text

        self._count += 1
        outcome = "" if seen.at_least_once else seen.outcome
        line = Text(f"{_MARKS.get(outcome, '·')} ", style=_COLOURS.get(outcome, ""))
        line.append(printable(self._line(seen)), style="default")
        self._scroll(line)

    def log(self, level: str, text: str) -> None:
        """Print a line, or as many as it has."""
        for line in text.rstrip("\n").split("\n"):
            self._print(f"  {line}", _LEVELS.get(level, "dim"))

    def progress(self, progress: Progress) -> None:
        """Change the line that moves."""
        self._progress = progress

    def _print(self, text: str, style: str) -> None:
        from rich.text import Text

        self._scroll(Text(printable(text), style=style))

    def _scroll(self, line: "Text") -> None:
        """Print a line that wraps between words, where an id fits whole on one line."""
        self._console.print(line, soft_wrap=self._console.width < _ROOM)

    def _render(self) -> "RenderableType":
        from rich.progress_bar import ProgressBar
        from rich.spinner import Spinner
        from rich.table import Table
        from rich.text import Text

        seconds = int(time.monotonic() - self._started)
        clock = f"{seconds // 60}:{seconds % 60:02}"
        count = f"{self._count} transaction{'' if self._count == 1 else 's'}"
        facts = [self._name, self._state, count, clock]
        told = " · ".join(fact for fact in facts if fact)
        if self._progress is None:
            return Spinner(talk.spinner(), Text(printable(told)), style="cyan")
        line = Text(
            printable(f"{_measure(self._progress)} · {clock}"), overflow="ellipsis", no_wrap=True
        )
        bar = ProgressBar(
            total=self._progress.total or 1,
            completed=self._progress.done,
            width=min(self._console.width, 60),
        )
        grid = Table.grid()
        grid.add_row(bar)
        grid.add_row(line)
        return grid


def _headline(facts: Mapping[str, Any]) -> str:
    return f"flow run {facts.get('flow_run')} · {facts.get('flow')} · {facts.get('name') or ''}"


def _measure(progress: Progress) -> str:
    told = f"{progress.doing} {progress.done:,} of {progress.total:,} {progress.unit}"
    if progress.rate:
        told += f" · {progress.rate:,.0f}/s"
    if progress.left is not None:
        told += f" · {_clock(progress.left)} left"
    return told


def _clock(seconds: float) -> str:
    whole = max(0, round(seconds))
    return f"{whole // 60}:{whole % 60:02}"


@contextmanager
def view(output: Format | None, *, quiet: bool) -> Iterator[View]:
    """Choose the view for a format and a terminal, and show it while the block runs."""
    if output is Format.JSONL:
        yield Events()
    elif quiet or (output is not None and not output.is_table):
        yield Silent()
    elif talk.coloured():
        terminal = Terminal(talk.console())
        with terminal.shown():
            yield terminal
    else:
        yield Lines()


def one_of_several(view: View, flow_run: str, label: str) -> View:
    """Return the part of a view that belongs to one of several runs."""
    if isinstance(view, Events):
        return view.of(flow_run)
    return Labelled(view, label)
