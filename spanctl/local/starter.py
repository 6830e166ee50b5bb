"""Starting parts side by side, and waiting until each is healthy or has failed."""

import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from spanctl import clock
from spanctl.errors import SpanctlError
from spanctl.local import health, processes
from spanctl.local.parts import Part
from spanctl.local.results import Failure, PartEvent, Phase
from spanctl.local.state import Folder, Record, State, tail

Progress = Callable[[PartEvent], None]

_POLL = 0.05
_PATIENCE = 10.0  # for a part that runs, but doesn't answer: it may just have been started
_GRACE = 5.0
_LOG_LINES = 15


@dataclass(slots=True)
class _Pending:
    part: Part
    since: float
    deadline: float
    replaceable: bool  # it ran before: one new start is tried if it stays silent


class Starter:
    """One ``up``: knows what was started, what is awaited and what failed."""

    def __init__(
        self, folder: Folder, state: State, environ: Mapping[str, str], progress: Progress
    ) -> None:
        """Nothing is started yet."""
        self.folder = folder
        self.state = state
        self.failures: list[Failure] = []
        self._environ = environ
        self._progress = progress
        self._pending: dict[str, _Pending] = {}

    @property
    def waiting(self) -> bool:
        """Whether a part is neither healthy nor failed yet."""
        return bool(self._pending)

    def launch(self, part: Part) -> None:
        """Keep the part if it runs as wanted; else start it. Returns before it is healthy.

        Raises:
            ConfigurationError: The state can't be written.
        """
        record = self.state.parts.get(part.name)
        if record and health.alive(record):
            if not part.fingerprint or part.fingerprint == record.fingerprint:
                now = time.monotonic()
                self._pending[part.name] = _Pending(part, now, now + _PATIENCE, replaceable=True)
                self._look(self._pending[part.name], kept=True)
                return
            processes.end([record.pid], _GRACE)
        self._start(part)

    def poll(self) -> None:
        """Look once at every part that is awaited, then pause a moment."""
        for pending in list(self._pending.values()):
            self._look(pending)
        time.sleep(_POLL)

    def refuse(self, name: str, reason: str, hint: str) -> None:
        """Count a part that is not ours to start as failed."""
        self.failures.append(Failure(name, reason, hint))
        self._progress(PartEvent(name, Phase.FAILED, text=reason))

    def is_ready(self, name: str) -> bool:
        """Whether a part that was launched is healthy."""
        failed = any(failure.part == name for failure in self.failures)
        return name not in self._pending and not failed

    def _start(self, part: Part) -> None:
        self._progress(PartEvent(part.name, Phase.STARTING))
        since = time.monotonic()
        self._clean(part)
        offset = self.folder.rotate(part.name)
        started_at = clock.now()
        try:
            pid, known = processes.spawn(
                part.command, part.environment, self.folder.log(part.name), self.folder.temporary
            )
        except SpanctlError as error:
            self._fail(part, since, error.message, error.hint)
            return
        record = Record(
            pid, known, part.endpoint, started_at, part.fingerprint, part.cleanup, offset
        )
        self.state = self.state.with_part(part.name, record)
        self.folder.save(self.state)
        self._pending[part.name] = _Pending(part, since, since + part.timeout, replaceable=False)

    def _look(self, pending: _Pending, *, kept: bool = False) -> None:
        part = pending.part
        failed = {failure.part for failure in self.failures}
        if lost := failed.intersection(part.needs):
            self._end(part)
            self._fail(part, pending.since, f"it needs the {min(lost)}")
            return
        trouble = health.trouble(part.name, self.state, self._environ, self.folder)
        if trouble is None:
            del self._pending[part.name]
            taken = time.monotonic() - pending.since
            self._progress(PartEvent(part.name, Phase.KEPT if kept else Phase.READY, taken))
        elif not health.alive(self.state.parts[part.name]):
            self._fail(part, pending.since, "it ended while it was starting")
        elif pending.replaceable and (trouble.lasting or time.monotonic() > pending.deadline):
            self._replace(pending, trouble)
        elif time.monotonic() > pending.deadline:
            self._end(part)
            reason = f"it {trouble.reason}, {part.timeout:.0f} s after it was started"
            self._fail(part, pending.since, reason, trouble.hint)

    def _replace(self, pending: _Pending, trouble: health.Trouble) -> None:
        if trouble.hint:  # no new start would mend it
            self._fail(pending.part, pending.since, f"it {trouble.reason}", trouble.hint)
        else:
            self._end(pending.part)
            self._start(pending.part)

    def _fail(self, part: Part, since: float, reason: str, hint: str = "") -> None:
        self._pending.pop(part.name, None)
        record = self.state.parts.get(part.name)
        offset = record.log_offset if record else 0
        lines = tail(self.folder.log(part.name), _LOG_LINES, offset)
        self.failures.append(Failure(part.name, reason, hint or _last_advice(lines), lines))
        taken = time.monotonic() - since
        self._progress(PartEvent(part.name, Phase.FAILED, taken, reason))

    def _end(self, part: Part) -> None:
        record = self.state.parts[part.name]
        if health.alive(record):
            processes.end([record.pid], _GRACE)
        self._clean(part)

    @staticmethod
    def _clean(part: Part) -> None:
        if part.cleanup:
            clean(part.cleanup)


def _last_advice(lines: tuple[str, ...]) -> str:
    """Return what a part of ours said, as it ended, that is to be run."""
    _, mark, command = lines[-1].rpartition("; run: ") if lines else ("", "", "")
    return f"run: {command}" if mark else ""


def clean(command: tuple[str, ...]) -> None:
    """Run a part's cleanup; that there is nothing to clean is no failure."""
    try:
        subprocess.run(command, capture_output=True, timeout=60, check=False)  # noqa: S603 - our own
    except (OSError, subprocess.TimeoutExpired) as error:
        msg = f"can't run {command[0]} to clean up: {type(error).__name__}"
        raise SpanctlError(msg) from error
