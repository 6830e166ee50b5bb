"""A server's version, pools and workers, as its API tells them."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from spanctl.clock import now
from spanctl.errors import UnreachableError
from spanctl.orchestration.fleet import Fleet, server_time
from spanctl.orchestration.settings import ApiSettings
from tests.faults.emulator import free_port
from tests.unit.orchestration.test_transport import Server


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.stop()


def answers(server: Server, *values: Any, status: int = 200) -> Fleet:
    server.answers = [(status, json.dumps(value).encode()) for value in values]
    return Fleet(ApiSettings(server.url), timeout=5.0)


def test_a_server_without_a_version(server: Server) -> None:
    """Prefect Cloud has no such page: that is no error, and its version is not known."""
    with answers(server, "3.8.8") as fleet:
        assert fleet.version() == "3.8.8"
    with answers(server, {}, status=404) as fleet:
        assert fleet.version() is None


def test_a_server_that_writes(server: Server) -> None:
    """What is made to see that is removed again."""
    with answers(server, {"id": "a-b"}) as fleet:
        fleet.check_writing()
    asked = [(method, path) for method, path, _, _ in server.requests]
    assert asked == [("PUT", "/api/saved_searches/"), ("DELETE", "/api/saved_searches/a-b")]


def test_a_server_that_cant_write(server: Server) -> None:
    """It answers, and what it lacks is said; where nobody may try, nothing is."""
    server.answers = [(500, b"{}")]
    with Fleet(ApiSettings(server.url), timeout=0.5) as fleet:
        with pytest.raises(UnreachableError, match="can't write to its database"):
            fleet.check_writing()
        server.answers = [(403, b"{}")]
        fleet.check_writing()


def test_every_pool_is_listed(server: Server) -> None:
    """Pools come in pages, and are sorted by name."""
    page = [{"name": f"p{n:03}", "type": "process", "is_paused": False} for n in range(200)]
    more = [{"name": "a", "type": "ecs:push", "is_paused": True}]
    with answers(server, page, more) as fleet:
        pools = fleet.pools()
    assert len(pools) == 201
    assert (pools[0].name, pools[0].paused, pools[0].needs_workers) == ("a", True, False)
    assert json.loads(server.requests[1][3])["offset"] == 200


def test_no_pools(server: Server) -> None:
    """A new server has none, and is asked once."""
    with answers(server, []) as fleet:
        assert fleet.pools() == []
    assert len(server.requests) == 1


def test_workers_are_those_of_the_pool_by_its_whole_name(server: Server) -> None:
    """A pool's name goes into the path as one part; who was seen last is first."""
    workers = [
        {"name": "old", "status": "OFFLINE", "last_heartbeat_time": None},
        {"name": "new", "status": "ONLINE", "last_heartbeat_time": "2026-01-01T00:00:00Z"},
    ]
    with answers(server, workers) as fleet:
        found = fleet.workers("a/b c")
    assert server.requests[0][1] == "/api/work_pools/a%2Fb%20c/workers/filter"
    assert [(worker.name, worker.online) for worker in found] == [("new", True), ("old", False)]


def test_the_servers_time(server: Server) -> None:
    """It is on every answer, whatever its status; without an answer there is none."""
    server.answers = [(401, b"{}")]
    told = server_time(ApiSettings(server.url, key="pnu_hidden"), timeout=5.0)
    assert told is not None
    assert abs((told - now()).total_seconds()) < 60
    assert "pnu_hidden" not in str(server.requests)
    with pytest.raises(UnreachableError):
        server_time(ApiSettings(f"http://127.0.0.1:{free_port()}/api"), timeout=5.0)
