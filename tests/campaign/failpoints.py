"""Named points at which a child dies: put around the methods that send RPCs, in the child only.

Production code knows nothing of them.
"""

import time
from collections.abc import Callable
from typing import Any, Final

from tests.campaign.zygote import Say, die

Matches = Callable[[Any], bool]


def _any(_: Any) -> bool:
    return True


def _begins(request: Any) -> bool:
    return "begin" in request.transaction


def _goes_on(request: Any) -> bool:
    return bool(request.transaction.id)


def _reads_receipt(request: Any) -> bool:
    return bool(request.table == "spanctl_receipts")


def _writes(table: str, kind: str = "insert") -> Matches:
    return lambda request: any(getattr(one, kind).table == table for one in request.mutations)


SENDS: Final[dict[str, tuple[str, Matches]]] = {
    "session": ("create_session", _any),
    "lease": ("commit", _writes("spanctl_intents")),
    "receipt look-up": ("stream_read", _reads_receipt),
    "begin": ("begin", _any),
    "first statement": ("stream_sql", _begins),
    "later statement": ("execute_sql", _goes_on),
    "commit": ("commit", _writes("spanctl_receipts")),
    "closing the leases": ("commit", _writes("spanctl_intents", "update")),
}
"""What is sent: the method of ``Rpc``, and how the request is told from others."""

POINTS: Final = (
    *(f"{when} {what}" for what in SENDS for when in ("before", "after")),
    "before the result returns",
)
NAIVE_POINTS: Final = ("before commit", "after commit", "before the result returns")
_FOR_EVER: Final = 60.0


def arm(point: str, say: Say | None = None) -> None:
    """Have this process die at a point; with ``say``, tell that it is there and wait instead."""
    from spanctl.spanner.protocol import Execution
    from spanctl.spanner.rpc import Rpc

    when, _, what = point.partition(" ")
    if what in SENDS:
        method, matches = SENDS[what]
        _wrap(Rpc, method, when, matches, say)
    else:
        _wrap(Execution, "run", "after", _any, say)


def arm_naive(point: str) -> None:
    """The same in Google's own client."""
    from google.cloud.spanner_v1.database import Database
    from google.cloud.spanner_v1.services.spanner import SpannerClient

    when, _, what = point.partition(" ")
    if what == "commit":
        _wrap(SpannerClient, "commit", when, _any, None)
    else:
        _wrap(Database, "run_in_transaction", "after", _any, None)


def _wrap(of: type, method: str, when: str, matches: Matches, say: Say | None) -> None:
    original = getattr(of, method)

    def hooked(self: Any, *args: Any, **given: Any) -> Any:
        hit = matches(args[0] if args else given.get("request"))
        if hit and when == "before":
            _die(say)
        answer = original(self, *args, **given)
        if method.startswith("stream"):
            answer = list(answer)
        if hit and when == "after":
            _die(say)
        return iter(answer) if method.startswith("stream") else answer

    setattr(of, method, hooked)


def _die(say: Say | None) -> None:
    if say is None:
        die()
    else:
        say("there")
        time.sleep(_FOR_EVER)
