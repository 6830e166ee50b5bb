"""What this ``up`` starts itself, what somebody else runs already, and on which ports."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import urlsplit

from spanctl.errors import ConflictError, UsageError
from spanctl.local import health, ports
from spanctl.local.parts import DOORS, EMULATOR, IDENTITY, SERVER, Endpoints
from spanctl.local.ports import LOOPBACK, OWN_HOSTS
from spanctl.local.state import State
from spanctl.peers import strangers_on

_VARIABLES: Final = {EMULATOR: "SPANNER_EMULATOR_HOST", SERVER: "PREFECT_API_URL"}
_FLAGS: Final = {EMULATOR: "--spanner-port", SERVER: "--prefect-port"}
_PORTS: Final = range(1, 65536)


def unsetting(name: str) -> str:
    """Return what has the environment no longer name another part in place of ours."""
    more = " PREFECT_API_AUTH_STRING" if name == SERVER else ""
    return f"unset {_VARIABLES[name]}{more}"


@dataclass(frozen=True, slots=True)
class Plan:
    """Where emulator and server will be.

    Attributes:
        state: The state, with the ports and the external endpoints of this ``up``.
        endpoints: Where both are reached.
    """

    state: State
    endpoints: Endpoints

    def is_own(self, name: str) -> bool:
        """Whether the stack runs this part itself."""
        return name not in self.state.external

    def port(self, name: str) -> int:
        """Return the port of a part that the stack runs itself."""
        return self.state.ports[name]


def make(
    state: State,
    environ: Mapping[str, str],
    *,
    spanner_port: int | None = None,
    prefect_port: int | None = None,
) -> Plan:
    """Decide on the places of emulator and server; nothing is started.

    Raises:
        UsageError: A port is none, or is given for something that the environment names already.
        ConflictError: A port is taken, or contradicts the stack that runs.
    """
    wanted = {EMULATOR: spanner_port, SERVER: prefect_port}
    external: dict[str, str] = {}
    chosen = dict(state.ports)
    for name, port in wanted.items():
        if port is not None and port not in _PORTS:
            msg = f"{port} is no port"
            raise UsageError(msg, hint=f"{_FLAGS[name]} takes 1 to 65535")
        if endpoint := _external(name, state, environ):
            _refuse_both(name, port, state, endpoint)
            external[name] = endpoint
        else:
            others = frozenset(value for key, value in chosen.items() if key not in {name, *DOORS})
            chosen[name] = _port(name, port, state, others)
    chosen = _with_doors(chosen, state)
    spanner = external.get(EMULATOR) or f"{LOOPBACK}:{chosen[EMULATOR]}"
    prefect = external.get(SERVER) or f"http://{LOOPBACK}:{chosen[SERVER]}/api"
    return Plan(replace(state, external=external, ports=chosen), Endpoints(spanner, prefect))


def _with_doors(chosen: Mapping[str, int], state: State) -> dict[str, int]:
    """Return the ports with those of the stand-ins: as they are while these run, else free ones."""
    places = dict(chosen)
    running = health.alive(state.parts.get(IDENTITY))
    for door in DOORS:
        if not (running and door in places):
            others = frozenset(value for key, value in places.items() if key != door)
            places[door] = ports.choose(places.get(door), others)
    return places


def _external(name: str, state: State, environ: Mapping[str, str]) -> str | None:
    """Return what the environment names, unless that is the stack's own part."""
    value = environ.get(_VARIABLES[name], "").rstrip("/")
    if not value:
        return None
    try:
        at = urlsplit(value if "//" in value else f"//{value}")
        host, port = at.hostname, at.port
    except ValueError:
        host, port = None, None
    if not host:
        msg = f"{_VARIABLES[name]} holds {value!r}, which is no address"
        raise UsageError(msg, hint=f"unset {_VARIABLES[name]}, or mend it")
    # A shell may have our own endpoints in its environment, perhaps after the part died; another
    # user who listens there then is no server of the person's.
    if host in OWN_HOSTS and port is not None and port == state.ports.get(name):
        is_alive = health.alive(state.parts.get(name))
        if is_alive or ports.is_free(port) or strangers_on(port):
            return None
    return value


def _refuse_both(name: str, port: int | None, state: State, endpoint: str) -> None:
    if port is not None:
        msg = f"{_FLAGS[name]} starts one, but {_VARIABLES[name]} names one at {endpoint}"
        raise UsageError(msg, hint=f"leave {_FLAGS[name]} out, or unset {_VARIABLES[name]}")
    if health.alive(state.parts.get(name)):
        own = state.parts[name].endpoint
        msg = f"{_VARIABLES[name]} names {endpoint}, but the stack runs its own {name} at {own}"
        raise ConflictError(msg, hint=f"unset {_VARIABLES[name]}, or run: spanctl local down")


def _port(name: str, wanted: int | None, state: State, others: frozenset[int]) -> int:
    known = state.ports.get(name)
    if known and health.alive(state.parts.get(name)):
        if wanted in {None, known}:
            return known
        msg = f"the {name} runs on port {known}, not on {wanted}"
        raise ConflictError(msg, hint="run: spanctl local down")
    if wanted is None:
        return ports.choose(known, others)
    if wanted in others or not ports.is_free(wanted):
        msg = f"port {wanted} is taken"
        raise ConflictError(msg, hint=f"leave {_FLAGS[name]} out to have a free one found")
    return wanted
