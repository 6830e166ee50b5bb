"""What is somebody else's is used, what is ours is told apart from it, and ports are honest."""

import os
import socket
from collections.abc import Iterator

import pytest

from spanctl.clock import now
from spanctl.errors import ConflictError, UsageError
from spanctl.local import plan, ports
from spanctl.local.parts import DOORS, EMULATOR, IDENTITY, SERVER
from spanctl.local.processes import identity
from spanctl.local.state import Record, State


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def running(name: str, endpoint: str, port: int) -> State:
    """Return a state in which the part runs (as this very process)."""
    record = Record(os.getpid(), identity(os.getpid()) or "", endpoint, now(), "")
    return State(parts={name: record}, ports={name: port})


def test_free_ports_are_found_and_remembered() -> None:
    """Two different ports, the same ones the next time."""
    first = plan.make(State(), {})
    assert first.port(EMULATOR) != first.port(SERVER)
    assert plan.make(first.state, {}).endpoints == first.endpoints


def test_a_remembered_port_that_was_taken_is_replaced(taken: int) -> None:
    """Somebody else's port is not fought for."""
    assert plan.make(State(ports={EMULATOR: taken}), {}).port(EMULATOR) != taken


def test_every_door_has_a_port_of_its_own() -> None:
    """The stand-ins' ports are free, differ from all others, and are had again."""
    first = plan.make(State(), {}).state.ports
    assert set(first) == {EMULATOR, SERVER, *DOORS}
    assert len(set(first.values())) == 5
    assert plan.make(State(ports=first), {}).state.ports == first


def test_doors_that_are_open_stay_where_they_are(taken: int) -> None:
    """While the stand-ins run, their ports are theirs; when they don't, others may take them."""
    listening = {DOORS[0]: taken, DOORS[1]: ports.choose(), DOORS[2]: ports.choose()}
    served = running(IDENTITY, f"https://127.0.0.1:{taken}", taken)
    state = State(parts=served.parts, ports=listening)
    assert plan.make(state, {}).state.ports.items() >= listening.items()
    assert plan.make(State(ports=listening), {}).port(DOORS[0]) != taken


def test_a_port_asked_for_is_not_kept_for_a_door() -> None:
    """A door's remembered port gives way to one that a person names."""
    wanted = ports.choose()
    made = plan.make(State(ports={DOORS[0]: wanted}), {}, spanner_port=wanted)
    assert made.port(EMULATOR) == wanted
    assert made.port(DOORS[0]) != wanted


@pytest.mark.parametrize("flag", ["spanner_port", "prefect_port"])
def test_a_taken_port_asked_for_is_a_conflict(taken: int, flag: str) -> None:
    """One line that names the port."""
    with pytest.raises(ConflictError, match=f"port {taken} is taken"):
        plan.make(State(), {}, **{flag: taken})


def test_one_port_for_both_is_a_conflict() -> None:
    """Emulator and server can't share one."""
    port = ports.choose()
    with pytest.raises(ConflictError, match=f"port {port} is taken"):
        plan.make(State(), {}, spanner_port=port, prefect_port=port)


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_number_that_is_no_port_is_refused(port: int) -> None:
    """Also by the library, not only by the command line."""
    with pytest.raises(UsageError, match="is no port"):
        plan.make(State(), {}, spanner_port=port)


def test_what_the_environment_names_is_external() -> None:
    """An emulator and an API of somebody else are used as they are."""
    environ = {"SPANNER_EMULATOR_HOST": "10.0.0.1:9", "PREFECT_API_URL": "https://p.example/api/"}
    made = plan.make(State(), environ)
    assert made.endpoints.spanner == "10.0.0.1:9"
    assert made.endpoints.prefect_api_url == "https://p.example/api"
    assert not made.is_own(EMULATOR)
    assert not made.is_own(SERVER)


def test_our_own_endpoint_in_the_environment_is_not_external() -> None:
    """A shell that exported what ``up`` said gets its own stack, alive or dead."""
    port = ports.choose()
    environ = {"SPANNER_EMULATOR_HOST": f"localhost:{port}"}
    assert plan.make(running(EMULATOR, f"127.0.0.1:{port}", port), environ).is_own(EMULATOR)
    assert plan.make(State(ports={EMULATOR: port}), environ).is_own(EMULATOR)


def test_our_old_port_in_other_hands_is_external(taken: int) -> None:
    """Who answers there now is somebody else."""
    environ = {"SPANNER_EMULATOR_HOST": f"127.0.0.1:{taken}"}
    assert not plan.make(State(ports={EMULATOR: taken}), environ).is_own(EMULATOR)


def test_our_old_port_in_a_stranger_s_hands_is_not(
    taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What another user has put there is nobody's to be sent to."""
    monkeypatch.setattr(plan, "strangers_on", lambda port: port == taken)
    environ = {"PREFECT_API_URL": f"http://127.0.0.1:{taken}/api"}
    made = plan.make(State(ports={SERVER: taken}), environ)
    assert made.is_own(SERVER)
    assert made.port(SERVER) != taken


def test_another_emulator_beside_our_own_is_a_conflict() -> None:
    """Data in the running one is not left behind in silence."""
    state = running(EMULATOR, "127.0.0.1:9", 9)
    with pytest.raises(ConflictError, match=r"the stack runs its own emulator at 127\.0\.0\.1:9"):
        plan.make(state, {"SPANNER_EMULATOR_HOST": "127.0.0.1:10"})


def test_another_port_than_the_running_one_is_a_conflict() -> None:
    """A part that runs isn't moved; asking for the port that it has is fine."""
    state = running(SERVER, "http://127.0.0.1:9/api", 9)
    assert plan.make(state, {}, prefect_port=9).port(SERVER) == 9
    with pytest.raises(ConflictError, match="the server runs on port 9, not on 10"):
        plan.make(state, {}, prefect_port=10)


def test_a_port_for_what_is_external_is_refused() -> None:
    """Both can't be meant."""
    with pytest.raises(UsageError, match="SPANNER_EMULATOR_HOST names one"):
        plan.make(State(), {"SPANNER_EMULATOR_HOST": "10.0.0.1:9"}, spanner_port=9)


@pytest.mark.parametrize("value", ["host:port", "http://[", ":9010"])
def test_an_address_that_is_none_is_refused(value: str) -> None:
    """The variable and its value are named."""
    with pytest.raises(UsageError, match="SPANNER_EMULATOR_HOST holds"):
        plan.make(State(), {"SPANNER_EMULATOR_HOST": value})
