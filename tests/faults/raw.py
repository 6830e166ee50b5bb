"""Google's own client, as people use it; it also tells what the database really holds."""

import contextlib
import os
import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from unittest import mock

from spanctl.resources import DatabaseName
from spanctl.spanner.rpc import Target
from tests.faults.emulator import INSTANCE, PROJECT, new_name

_making = threading.Lock()


@contextlib.contextmanager
def client(address: str) -> Iterator[Any]:
    """Yield a client of the emulator, or of a proxy in front of it, and close it."""
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import spanner

    # The variable is read when the client is made, and must not outlive that: threads that each put
    # back what they found would leave another's address behind.
    with _making, mock.patch.dict(os.environ, {"SPANNER_EMULATOR_HOST": address}):
        made = spanner.Client(project=PROJECT, credentials=AnonymousCredentials())
    try:
        yield made
    finally:
        made.close()


def create_database(address: str, ddl: Sequence[str]) -> str:
    """Create a database (and the instance when it lacks), and return its id."""
    from google.api_core import exceptions

    with client(address) as made:
        instance = made.instance(
            INSTANCE, configuration_name=f"projects/{PROJECT}/instanceConfigs/emulator-config"
        )
        with contextlib.suppress(exceptions.AlreadyExists):
            instance.create().result(30)
        name = new_name()
        instance.database(name, ddl_statements=list(ddl)).create().result(30)
    return name


def drop_database(address: str, name: str) -> None:
    """Drop a database: an instance of the emulator holds a hundred at most."""
    with client(address) as made:
        made.instance(INSTANCE).database(name).drop()


@contextlib.contextmanager
def database(address: str, name: str, *, checked: bool = True) -> Iterator[Any]:
    """Yield Google's ``Database`` on a regular session pool.

    By default its pool asks the server, before every transaction, whether the session still
    exists; ``checked=False`` spares that round trip, which is the best that the client can do.
    """
    with client(address) as made:
        from google.cloud.spanner_v1.pool import BurstyPool

        class Unchecked(BurstyPool):  # type: ignore[misc]
            def get(self) -> Any:
                try:
                    return self._sessions.get_nowait()
                except queue.Empty:
                    return super().get()

        pool = BurstyPool(target_size=2) if checked else Unchecked(target_size=2)
        yield made.instance(INSTANCE).database(name, pool=pool)


def rows(address: str, name: str, sql: str, **params: Any) -> list[tuple[Any, ...]]:
    """Read the truth, strongly, past every proxy."""
    from google.cloud.spanner_v1 import param_types

    known: Mapping[type, Any] = {int: param_types.INT64, str: param_types.STRING}
    types = {key: known[type(value)] for key, value in params.items()}
    with database(address, name) as raw, raw.snapshot() as snapshot:
        return [tuple(row) for row in snapshot.execute_sql(sql, params or None, types or None)]


def sessions(address: str, name: str) -> list[str]:
    """Return the names of the regular sessions that the server knows."""
    with client(address) as made:
        found = made.instance(INSTANCE).database(name)
        listed = found.spanner_api.list_sessions(database=found.name)
        return sorted(one.name for one in listed if not one.multiplexed)


def target(address: str, name: str) -> Target:
    """Return where spanctl finds the same database."""
    return Target(database=DatabaseName(PROJECT, INSTANCE, name), emulator_host=address)
