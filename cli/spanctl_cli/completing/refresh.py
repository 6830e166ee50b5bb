"""Renew the cache that completions are answered from: ``python -m spanctl_cli.completing.refresh``.

Runs detached, below the terminal's other work, for a minute at most. What can't be asked keeps
the values that it had. Only names and IDs are written.
"""

import contextlib
import fcntl
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import Final

from spanctl.errors import SpanctlError
from spanctl.proxies import spare_loopback
from spanctl_cli.completing.cache import Cache, Values
from spanctl_cli.completing.kinds import Kind
from spanctl_cli.context import AppContext

_SECONDS: Final = 60
_NICE: Final = 10
_NEWEST: Final = 100
_SINCE: Final = timedelta(days=7)

Found = Iterator[tuple[Kind, Iterable[tuple[str, str]]]]


def main() -> None:
    """Renew the cache of the context in use, unless another process is at it."""
    signal.alarm(_SECONDS)
    spare_loopback()
    os.nice(_NICE)
    app = AppContext.build(context=None, quiet=True, verbose=False, no_input=True)
    cache = Cache.of(app.settings())
    lock = os.open(cache.path.with_suffix(".asked"), os.O_RDWR | os.O_CREAT, 0o600)
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        renew(cache, app)
        cache.forget_old()


def renew(cache: Cache, app: AppContext) -> None:
    """Ask each source what there is; what each says is kept at once."""
    known = dict(cache.read())
    for source in (_orchestrator, _database, _secrets):
        known |= _asked(source, app)
        cache.write(known)


def _asked(source: Callable[[AppContext], Found], app: AppContext) -> Values:
    found: dict[str, list[tuple[str, str]]] = {}
    with contextlib.suppress(SpanctlError):  # it is down, or denies, or there is none
        for kind, values in source(app):
            found[kind.value] = [(value, about) for value, about in values if value]
    return found


def _orchestrator(app: AppContext) -> Found:
    """Yield the newest flow runs, each by name and by ID, and the deployments with their flows."""
    from spanctl.orchestration.browsing import RunFilter, list_runs
    from spanctl_cli.runs.deployments import connect

    with connect(app) as api:
        runs = [found.run for found in list_runs(api, RunFilter(), limit=_NEWEST).runs]
        by_name = [(run.name, run.id) for run in runs]
        yield Kind.FLOW_RUNS, [*by_name, *((run.id, run.name) for run in runs)]
        deployments = api.deployment_names()
        yield Kind.DEPLOYMENTS, [(name, "") for name in deployments]
        flows = dict.fromkeys(name.partition("/")[0] for name in deployments)
        yield Kind.FLOWS, [(name, "") for name in flows]


def _database(app: AppContext) -> Found:
    """Yield the tables, and the transactions: the newest, those in limbo, and those fenced."""
    from spanctl import clock
    from spanctl.ledger.phases import step_of
    from spanctl.ledger.receipt import EntryKind
    from spanctl.spanner import catalog, ddl, limbo, receipts
    from spanctl.spanner.client import Database, Target

    with Database(Target.from_settings(app.settings())) as database:
        tables = catalog.tables(database)
        yield Kind.TABLES, [(name, "") for name in tables if not ddl.is_ledger(name)]
        _ = database.ledger  # there may be none
        newest = receipts.listing(database, since=clock.now() - _SINCE, limit=_NEWEST)
        fenced = [one for one in newest if one.kind is EntryKind.FENCED]
        yield Kind.TXNS, [(one.txn_id, step_of(one)) for one in newest]
        yield Kind.FENCED, [(one.txn_id, step_of(one)) for one in fenced]
        open_ = limbo.unsettled(database, limbo.open_leases(database))
        yield Kind.UNRESOLVED, [(one.txn_id, one.step) for one in open_[:_NEWEST]]


def _secrets(app: AppContext) -> Found:
    """Yield the secrets of the project that hold credentials."""
    from spanctl_cli.creds.access import access

    settings = app.settings()
    settings.require("project")
    if settings.get("emulator_host"):
        return  # it takes no credentials, and looking for some would ask the network
    with access(app) as reached:
        names = reached.inventory.names(reached.project)
        yield Kind.SECRETS, [(name.secret, "") for name in names]


if __name__ == "__main__":
    main()
