"""Checks of distance and of clocks, measured from this machine."""

import statistics
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from spanctl.clock import monotonic, now
from spanctl.errors import ConfigurationError, NotPermittedError, SpanctlError
from spanctl.health.model import Answer, fail, ok, skipped, unknown, warn
from spanctl.health.surroundings import Surroundings

if TYPE_CHECKING:
    from spanctl.spanner.client import Database

_SAMPLES: Final = 5
_FAR: Final = 0.025
_ASTRAY: Final = 2.0
_WRONG: Final = 60.0
_SECOND: Final = 1.0
_SYNC: Final = "timedatectl set-ntp true"


def round_trip(around: Surroundings) -> Answer:
    """Measure the round trip to Spanner, and say where its leader is."""
    database = around.database()
    taken = [took for took, _ in _samples(database, around.timeout)]
    median = statistics.median(taken)
    facts: dict[str, Any] = {"milliseconds": round(median * 1000, 2), "workers": "unknown"}
    told = f"{median * 1000:.1f} ms from here"
    rest = "where workers are, Prefect doesn't tell"
    if database.target.is_emulated:
        return ok(f"{told} to the emulator, which has no regions; {rest}", **facts)
    region, trouble = _leader(database, around.timeout)
    facts["leader_region"] = region
    told = f"{told} to the leader in {region}" if region else f"{told}; leader region {trouble}"
    if median > _FAR:
        mend = f"run workers in {region}" if region else "run workers near the leader"
        return warn(f"{told}: far, and a transaction takes 3 or more; {rest}", mend, **facts)
    return ok(f"{told}; {rest}", **facts)


def _leader(database: "Database", timeout: float) -> tuple[str | None, str]:
    from spanctl.spanner.region import leader_region

    try:
        return leader_region(database, timeout=timeout), "unknown: the instance names none"
    except NotPermittedError:
        return None, "unknown: needs spanner.instances.get"
    except SpanctlError as error:
        return None, f"unknown: {error.message}"


def _samples(database: "Database", timeout: float) -> list[tuple[float, timedelta]]:
    """Return, of several queries, how long each took and by how much Spanner's clock is ahead."""
    from spanctl.spanner.rows import as_datetime

    found = []
    for _ in range(_SAMPLES + 1):
        began, since = now(), monotonic()
        ((server,),) = database.query("SELECT CURRENT_TIMESTAMP()", timeout=timeout)
        took = monotonic() - since
        found.append((took, as_datetime(server) - (began + timedelta(seconds=took / 2))))
    return found[1:]  # the first one connects


def clock(around: Surroundings) -> Answer:
    """Compare this machine's clock with Spanner's."""
    took, ahead = min(_samples(around.database(), around.timeout), key=lambda sample: sample[0])
    return judged(-ahead.total_seconds(), took / 2, "Spanner's")


def prefect_clock(around: Surroundings) -> Answer:
    """Compare this machine's clock with the one of the Prefect server."""
    reached = around.prefect()
    if reached is None:
        return skipped("no Prefect API is set")
    from spanctl.orchestration.fleet import server_time

    began, since = now(), monotonic()
    told = server_time(reached, timeout=around.timeout)
    took = monotonic() - since
    if told is None:
        return unknown("Prefect's answer has no Date")
    return judged(ahead_of(told, began, took), took / 2 + _SECOND / 2, "Prefect's")


def ahead_of(told: datetime, began: datetime, took: float) -> float:
    """Return by how many seconds our clock is ahead of one that tells whole seconds."""
    middle = began + timedelta(seconds=took / 2)
    return (middle - (told + timedelta(seconds=_SECOND / 2))).total_seconds()


def judged(ahead: float, uncertain: float, whose: str) -> Answer:
    """Judge a clock that is so many seconds ahead, by what the measurement leaves no doubt of."""
    facts = {"ahead_seconds": round(ahead, 4), "uncertainty_seconds": round(uncertain, 4)}
    off = max(0.0, abs(ahead) - uncertain)
    way = "ahead of" if ahead > 0 else "behind"
    told = f"{abs(ahead):.3f} s {way} {whose}, give or take {uncertain:.3f} s"
    if off > _WRONG:
        msg = f"this machine's clock is {told}: tokens and leases are misjudged"
        return fail(ConfigurationError(msg, hint=f"run: {_SYNC}"), **facts)
    if off > _ASTRAY:
        return warn(f"this machine's clock is {told}", _SYNC, **facts)
    return ok(told if off else f"agrees with {whose} within {uncertain:.3f} s", **facts)
