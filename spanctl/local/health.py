"""How each part is known to do its work."""

from collections.abc import Callable, Mapping
from typing import Final

from spanctl.local import parts, probes
from spanctl.local.processes import is_alive
from spanctl.local.state import Record, State

Check = Callable[[Record, State, Mapping[str, str]], bool]
"""Whether the process of a record does its work; asked often, so quick."""


def _emulator(record: Record, _state: State, _environ: Mapping[str, str]) -> bool:
    return probes.grpc_answers(record.endpoint) and probes.alone_on(record.endpoint)


def _identity(record: Record, _state: State, _environ: Mapping[str, str]) -> bool:
    return probes.standins_answer(record.endpoint)


def _server(record: Record, _state: State, _environ: Mapping[str, str]) -> bool:
    return probes.api_answers(record.endpoint, {})


def _worker(record: Record, state: State, environ: Mapping[str, str]) -> bool:
    since = record.started_at
    if url := state.external.get(parts.SERVER):
        return probes.worker_polls(url, parts.POOL, parts.worker_name(), since, environ)
    server = state.parts.get(parts.SERVER)
    if server is None:
        return False
    since = max(since, server.started_at)  # what it told an earlier server proves nothing
    return probes.worker_polls(server.endpoint, parts.POOL, parts.worker_name(), since, {})


CHECKS: Final[Mapping[str, Check]] = {
    parts.EMULATOR: _emulator,
    parts.IDENTITY: _identity,
    parts.SERVER: _server,
    parts.WORKER: _worker,
}


def alive(record: Record | None) -> bool:
    """Whether the process of the record still runs."""
    return record is not None and is_alive(record.pid, record.identity)


def healthy(name: str, state: State, environ: Mapping[str, str]) -> bool:
    """Whether the part runs and does its work."""
    record = state.parts.get(name)
    return record is not None and alive(record) and CHECKS[name](record, state, environ)


def external_answers(name: str, endpoint: str, environ: Mapping[str, str]) -> bool:
    """Whether what somebody else runs in place of a part answers."""
    if name == parts.EMULATOR:
        return probes.grpc_answers(endpoint)
    return probes.api_answers(endpoint, environ, timeout=5.0)
