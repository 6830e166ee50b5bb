"""What a check says of a part, as values."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from spanctl.errors import SpanctlError

_COMMAND: Final = re.compile(r"(?:^|[ :])run: (.+?)(?:, or: .*|; .*| \(.*)?$")


class Status(StrEnum):
    """How a part is.

    SKIPPED is what was not looked at because something before it failed, UNSUPPORTED what is not
    there to be looked at (an emulator has no IAM), UNKNOWN what could not be found out and is no
    failure.
    """

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    SKIPPED = "skipped"
    UNSUPPORTED = "unsupported"
    UNKNOWN = "unknown"

    @property
    def blocks(self) -> bool:
        """Whether there is no use in looking at what rests on the part."""
        return self in {Status.FAIL, Status.SKIPPED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of one check.

    Attributes:
        status: How the part is.
        evidence: What was found, in one line, never secret.
        mend: What to type, or else to do, next; empty when there is nothing to mend.
        facts: The same for machines, JSON-able.
        error: Why it failed; None unless it did. Its class stands for an exit code.
    """

    status: Status
    evidence: str
    mend: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    error: SpanctlError | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """What is known of one part.

    Attributes:
        part: Its id.
        answer: What came of looking at it.
        seconds: How long that took.
    """

    part: str
    answer: Answer
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Check:
    """One part, and how it is looked at.

    Attributes:
        part: Its id.
        look: Looks at it; may raise ``SpanctlError`` for what is broken.
        needs: The parts that it rests on: it is looked at after them, and not if they failed.
    """

    part: str
    look: Callable[[], Answer]
    needs: tuple[str, ...] = ()


def ok(evidence: str, **facts: Any) -> Answer:  # noqa: ANN401 - JSON-able
    """Say that a part is as it should be."""
    return Answer(status=Status.OK, evidence=evidence, facts=facts)


def warn(evidence: str, mend: str = "", **facts: Any) -> Answer:  # noqa: ANN401 - JSON-able
    """Say that a part works, and what could be better."""
    return Answer(status=Status.WARN, evidence=evidence, mend=mend, facts=facts)


def fail(error: SpanctlError, **facts: Any) -> Answer:  # noqa: ANN401 - JSON-able
    """Say that a part is broken, in the words of an error, with the command that it hints at."""
    command = _COMMAND.search(error.hint)
    mend = command.group(1) if command else error.hint
    return Answer(status=Status.FAIL, evidence=error.message, mend=mend, facts=facts, error=error)


def unsupported(evidence: str, **facts: Any) -> Answer:  # noqa: ANN401 - JSON-able
    """Say that a part isn't there to be looked at."""
    return Answer(status=Status.UNSUPPORTED, evidence=evidence, facts=facts)


def unknown(evidence: str, mend: str = "", **facts: Any) -> Answer:  # noqa: ANN401 - JSON-able
    """Say that it could not be found out how a part is, and that this is no failure."""
    return Answer(status=Status.UNKNOWN, evidence=evidence, mend=mend, facts=facts)


def skipped(why: str, **facts: Any) -> Answer:  # noqa: ANN401 - JSON-able
    """Say that a part was not looked at, and why."""
    return Answer(status=Status.SKIPPED, evidence=f"not looked at: {why}", facts=facts)
