"""How each part is known to do its work, and what keeps it from that."""

import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from spanctl.local import auth, parts, probes, processes
from spanctl.local.processes import is_alive
from spanctl.local.standins.files import Places
from spanctl.local.state import Folder, Record, State
from spanctl.orchestration.settings import ApiSettings, api_settings
from spanctl.peers import trust_only_own


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a part does not do its work.

    Attributes:
        reason: What is wrong, to follow the part's name.
        hint: What mends it where a new start doesn't; empty where that does.
        lasting: Whether there is no use in waiting.
    """

    reason: str
    hint: str = ""
    lasting: bool = False


_PATIENTLY: Final = 5.0
_BRIEFLY: Final = 1.0
_SILENT: Final = Trouble("does not answer")

Check = Callable[[Record, State, Mapping[str, str], Folder], Trouble | None]
"""What keeps the process of a record from its work, None when nothing does; asked often."""


def _emulator(
    record: Record, _state: State, _environ: Mapping[str, str], _folder: Folder
) -> Trouble | None:
    if not probes.grpc_answers(record.endpoint):
        return _SILENT
    return None if probes.alone_on(record.endpoint) else Trouble("shares its port with another one")


def _identity(
    record: Record, _state: State, _environ: Mapping[str, str], folder: Folder
) -> Trouble | None:
    if not probes.standins_answer(record.endpoint):
        return _SILENT
    places = Places(folder.identity)
    if not probes.vouches(places.bundle, record.endpoint):
        reason = f"shows a certificate that {places.bundle} doesn't vouch for"
        return Trouble(reason, lasting=True)
    if not probes.logs_in(places.user, places.bundle, record.endpoint):
        return Trouble(f"refuses the login in {places.user}", lasting=True)
    return None


def _server(
    record: Record, _state: State, _environ: Mapping[str, str], folder: Folder
) -> Trouble | None:
    api = _own_api(record, folder)
    opens = probes.api_opens(api)
    if not opens:
        refused = Trouble(f"does not open with what {folder.auth} holds", lasting=True)
        return _SILENT if opens is None else refused
    if probes.api_opens(ApiSettings(record.endpoint)):
        return Trouble("opens to everybody", lasting=True)
    database = folder.prefect_home / "prefect.db"
    if not database.exists():  # it goes on in a file that has no name any more
        return Trouble(f"has lost {database}", lasting=True)
    others = processes.writers(database, database.with_name("prefect.db-shm")) - {record.pid}
    writes = probes.api_writes(api, _BRIEFLY if others else _PATIENTLY)
    if writes:
        return None
    if others:
        reason = f"can't write {database}: process {min(others)} keeps it locked"
        return Trouble(reason, f"run: kill {min(others)}")
    return Trouble(f"can't write {database}", lasting=writes is False)


def _worker(
    record: Record, state: State, environ: Mapping[str, str], folder: Folder
) -> Trouble | None:
    since = record.started_at
    if url := state.external.get(parts.SERVER):
        api = api_settings(url, environ=environ)
    elif server := state.parts.get(parts.SERVER):
        since = max(since, server.started_at)  # what it told an earlier server proves nothing
        api = _own_api(server, folder)
    else:
        api = None
    well = api is not None and probes.worker_polls(api, parts.POOL, parts.worker_name(), since)
    return None if well else Trouble("does not report to Prefect")


def _own_api(server: Record, folder: Folder) -> ApiSettings:
    trust_only_own(server.endpoint)
    kept = auth.read(folder)
    return ApiSettings(server.endpoint, auth_string=kept.reveal_text() if kept else None)


CHECKS: Final[Mapping[str, Check]] = {
    parts.EMULATOR: _emulator,
    parts.IDENTITY: _identity,
    parts.SERVER: _server,
    parts.WORKER: _worker,
}


def alive(record: Record | None) -> bool:
    """Whether the process of the record still runs."""
    return record is not None and is_alive(record.pid, record.identity)


def trouble(name: str, state: State, environ: Mapping[str, str], folder: Folder) -> Trouble | None:
    """Return what keeps a part from its work; None when it runs and does it."""
    record = state.parts.get(name)
    if record is None or not alive(record):
        return _stopped(name, folder)
    if processes.is_suspended(record.pid):
        return Trouble("is stopped by a signal", lasting=True)
    return CHECKS[name](record, state, environ, folder)


def _stopped(name: str, folder: Folder) -> Trouble:
    """Return that a part does not run, and what keeps it from starting, where that can be seen."""
    kept = Places(folder.identity).database
    if name == parts.IDENTITY and _is_damaged(kept):
        reset = "run: spanctl local reset && spanctl local up"
        return Trouble(
            f"does not run: {kept} is damaged, and its secrets lost", reset, lasting=True
        )
    return Trouble("does not run", lasting=True)


def _is_damaged(path: Path) -> bool:
    if not path.exists():
        return False
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
            return bool(database.execute("PRAGMA quick_check").fetchone() != ("ok",))
    except sqlite3.OperationalError:
        return False  # it could not be looked at
    except sqlite3.DatabaseError:
        return True


def external_answers(name: str, endpoint: str, environ: Mapping[str, str]) -> bool:
    """Whether what somebody else runs in place of a part answers.

    Raises:
        ConfigurationError: Prefect's profiles, which may hold what opens its API, can't be read.
    """
    if name == parts.EMULATOR:
        return probes.grpc_answers(endpoint)
    api = api_settings(endpoint, environ=environ)
    return api is not None and probes.api_answers(api, timeout=5.0)
