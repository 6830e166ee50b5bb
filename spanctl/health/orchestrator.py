"""Checks of Prefect: its API, its version, and the workers that run deployments."""

import shlex
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spanctl.clock import monotonic, now
from spanctl.errors import ConflictError, NotFoundError, NotPermittedError, UnreachableError
from spanctl.health.configuration import numbers
from spanctl.health.model import Answer, fail, ok, skipped, unknown, unsupported, warn
from spanctl.health.surroundings import Surroundings

if TYPE_CHECKING:
    from spanctl.orchestration.fleet import Fleet, WorkPool

_SET = "spanctl context set prefect_api_url=http://127.0.0.1:4200/api"
_SHOWN = 5


def prefect(around: Surroundings) -> Answer:
    """Say whether Prefect's API answers, and lets us in."""
    reached = around.prefect()
    if reached is None:
        mend = _SET if around.settings().context else "spanctl local up"
        return warn("no Prefect API is set: flows and deployments can't run", mend)
    with _fleet(around, 0.5) as fleet:  # for two requests
        since = monotonic()
        try:
            pools = fleet.pools()
        except NotPermittedError as error:
            return fail(_without_environment(around, error))
        took = monotonic() - since
        fleet.check_writing()
    return ok(
        f"answers at {reached.url} in {took * 1000:.0f} ms",
        url=reached.url,
        milliseconds=round(took * 1000, 1),
        work_pools=len(pools),
    )


def folder(around: Surroundings) -> Answer:
    """Say what lies in the current folder that Prefect would read, and spanctl does not."""
    from spanctl.orchestration import strays

    settings = around.settings()
    url = settings.get("prefect_api_url")
    here = strays.found(Path.cwd())
    told = ", ".join(one.path.name for one in here)
    facts = {"not_read": [str(one.path) for one in here]}
    if not here:
        return ok("holds no settings of Prefect's", **facts)
    other = next((one for one in here if not strays.names(one, url)), None)
    if other is None or settings.context is None or settings.is_local:
        return ok(f"settings of Prefect's, not read: {told}", **facts)
    return warn(
        f"{other.path.name} names another Prefect API than this context; not read: {told}",
        strays.take_over(other),
        **facts,
    )


def _without_environment(around: Surroundings, error: NotPermittedError) -> NotPermittedError:
    """Return an error that says to unset what goes before what the context names."""
    from spanctl.orchestration.keys import SETTINGS

    given = [name for name in SETTINGS if around.environ.get(name)]
    if not given or not any(around.settings().get(name) for name in SETTINGS.values()):
        return error
    told = f"{error.message}, which are those of {' and '.join(given)} in the environment"
    return NotPermittedError(told, hint=f"run: unset {' '.join(given)}", **error.details)


def _fleet(around: Surroundings, share: float = 1.0) -> "Fleet":
    from spanctl.orchestration.fleet import Fleet

    reached = around.prefect()
    if reached is None:
        msg = "no Prefect API is set"
        raise NotFoundError(msg, hint=f"run: {_SET}")
    return Fleet(reached, timeout=around.timeout * share)


def version(around: Surroundings) -> Answer:
    """Compare the server's version with the prefect that is installed here."""
    if around.prefect() is None:
        return skipped("no Prefect API is set")
    try:
        here = metadata.version("prefect")
    except metadata.PackageNotFoundError:
        return unknown("prefect is not installed here")
    with _fleet(around) as fleet:
        there = fleet.version()
    facts = {"installed": here, "server": there}
    if there is None:
        return unsupported(f"the server doesn't tell; installed is {here}", **facts)
    told = f"server {there}, installed {here}"
    mend = f"pip install 'prefect=={there}'"
    if numbers(there)[:1] != numbers(here)[:1]:
        return fail(
            ConflictError(f"{told}: they don't understand each other", hint=f"run: {mend}"), **facts
        )
    if numbers(there)[:2] < numbers(here)[:2]:
        return warn(f"{told}: a server older than its clients may refuse them", mend, **facts)
    return ok(told if there != here else f"{here}, server and here", **facts)


def workers(around: Surroundings) -> Answer:
    """Say which work pools have a worker that is alive; runs of the others wait."""
    if around.prefect() is None:
        return skipped("no Prefect API is set")
    with _fleet(around) as fleet:
        named = around.settings().get("work_pool")
        pools = fleet.pools()
        known = [
            type(pool)(pool.name, pool.type, pool.paused, fleet.workers(pool.name))
            for pool in pools
        ]
    facts = {"work_pool": named, "pools": [_facts(pool) for pool in known]}
    ours = next((pool for pool in known if pool.name == named), None)
    if named and ours is None:
        msg = f"there is no work pool {named}, which this context names"
        hint = f"run: {_prefect(around)} work-pool create {shlex.quote(named)} --type process"
        return fail(NotFoundError(msg, hint=hint), **facts)
    if ours is not None and ours.needs_workers and not ours.online:
        msg = f"no worker of pool {ours.name} is alive: runs of its deployments wait"
        hint = f"run: {_prefect(around)} worker start --pool {shlex.quote(ours.name)}"
        return fail(UnreachableError(msg, hint=hint), **facts)
    return told_of(known, facts, _prefect(around))


def _prefect(around: Surroundings) -> str:
    """Return Prefect's command line, which doesn't know of contexts, with where the API is."""
    from spanctl.orchestration.keys import assignments

    reached = around.prefect()
    if reached is None:
        return "prefect"
    return " ".join([*assignments(around.settings(), reached.url, around.environ), "prefect"])


def told_of(known: Sequence["WorkPool"], facts: dict[str, Any], command: str = "prefect") -> Answer:
    """Say which of these pools hand out runs to somebody; runs of the others wait."""
    if not known:
        told = "there is no work pool: deployments run only where they are served"
        return warn(told, f"{command} work-pool create default --type process", **facts)
    told = ", ".join(_words(pool) for pool in known[:_SHOWN])
    if len(known) > _SHOWN:
        told = f"{told}, and {len(known) - _SHOWN} more pools"
    if paused := [pool.name for pool in known if pool.paused]:
        mend = f"{command} work-pool resume {shlex.quote(paused[0])}"
        return warn(f"{told}: runs wait", mend, **facts)
    if idle := [pool.name for pool in known if pool.needs_workers and not pool.online]:
        mend = f"{command} worker start --pool {shlex.quote(idle[0])}"
        return warn(f"{told}: runs wait", mend, **facts)
    return ok(told, **facts)


def _words(pool: "WorkPool") -> str:
    if pool.paused:
        return f"pool {pool.name} is paused"
    if not pool.needs_workers:
        return f"pool {pool.name} ({pool.type})"
    if not pool.online:
        return f"pool {pool.name} has no worker alive"
    count = len(pool.online)
    words = f"pool {pool.name}: {count} worker{'' if count == 1 else 's'} alive"
    seen = pool.online[0].seen
    return f"{words}, seen {max(0, int((now() - seen).total_seconds()))} s ago" if seen else words


def _facts(pool: "WorkPool") -> dict[str, Any]:
    return {
        "name": pool.name,
        "type": pool.type,
        "paused": pool.paused,
        "online": [worker.name for worker in pool.online],
        "offline": sum(not worker.online for worker in pool.workers),
        "region": None,
    }
