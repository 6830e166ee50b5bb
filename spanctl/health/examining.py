"""Checks run side by side, each with a deadline: one that hangs stops only what rests on it."""

import queue
import threading
from collections.abc import Iterator, Sequence
from typing import Final

from spanctl.clock import monotonic
from spanctl.errors import SpanctlError, UnreachableError
from spanctl.health.model import Answer, Check, Finding, fail, skipped

DEADLINE: Final = 15.0


class CheckFailedError(SpanctlError):
    """A check itself is broken: a bug in spanctl (exit 1)."""

    code = "internal"


def examine(checks: Sequence[Check], *, deadline: float = DEADLINE) -> Iterator[Finding]:
    """Look at every part, and yield what was found as it is found.

    A check begins when all that it needs is done. What doesn't answer in time is a failure, and is
    left to itself in a daemon thread.

    Args:
        checks: The checks; each needs only others among them, and in no circle.
        deadline: Seconds that each check may take.
    """
    found: dict[str, Finding] = {}
    waiting = {check.part: check for check in checks}
    running: dict[str, float] = {}
    arrived: queue.SimpleQueue[Finding] = queue.SimpleQueue()
    while waiting or running:
        for check in [one for one in waiting.values() if all(need in found for need in one.needs)]:
            del waiting[check.part]
            if (root := _root(check, found)) is not None:
                running[check.part] = monotonic()
                arrived.put(Finding(check.part, _skipped(root)))
            else:
                running[check.part] = monotonic()
                _start(check, arrived)
        finding = _next(running, arrived, deadline)
        if finding.part in running:  # else it came after its deadline, and was told already
            del running[finding.part]
            found[finding.part] = finding
            yield finding


def _next(
    running: dict[str, float], arrived: "queue.SimpleQueue[Finding]", deadline: float
) -> Finding:
    """Return the next finding: what arrived, or the failure of what did not in time."""
    part = min(running, key=lambda name: running[name])
    left = running[part] + deadline - monotonic()
    try:
        return arrived.get(timeout=max(0.0, left))
    except queue.Empty:
        msg = f"no answer within {deadline:g} s"
        hint = "check the network, or run: spanctl doctor --timeout 60s"
        return Finding(part, fail(UnreachableError(msg, hint=hint)), deadline)


def _start(check: Check, arrived: "queue.SimpleQueue[Finding]") -> None:
    def run() -> None:
        since = monotonic()
        answer = _looked(check)
        arrived.put(Finding(check.part, answer, monotonic() - since))

    # A daemon: the process doesn't wait for what hangs.
    threading.Thread(target=run, name=f"spanctl-check-{check.part}", daemon=True).start()


def _looked(check: Check) -> Answer:
    try:
        return check.look()
    except SpanctlError as error:
        return fail(error)
    except Exception as error:  # noqa: BLE001 - told as a failure; the other checks go on
        # Without its text, which may hold data or secrets.
        msg = f"the check broke: {type(error).__name__}"
        return fail(CheckFailedError(msg, hint="report it; it is a bug in spanctl"))


def _root(check: Check, found: dict[str, Finding]) -> Finding | None:
    """Return the first thing that a check needs and that failed; None when all is there."""
    return next((found[need] for need in check.needs if found[need].answer.status.blocks), None)


def _skipped(root: Finding) -> Answer:
    part = root.answer.facts.get("because", root.part)
    return skipped(f"see {part}", because=part)
