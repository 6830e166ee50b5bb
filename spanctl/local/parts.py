"""The parts of the stack: how each is started."""

import hashlib
import os
import site
import socket
import sys
import sysconfig
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import spanctl
from spanctl.local import auth
from spanctl.local.emulator import Emulator
from spanctl.local.ports import LOOPBACK, OWN_HOSTS
from spanctl.local.processes import MARK
from spanctl.local.standins.files import Places
from spanctl.local.state import Folder, State
from spanctl.proxies import spare_loopback
from spanctl.references import FileReference
from spanctl.settings import config_home
from spanctl.variables import CONTEXT_VARIABLE, LOCAL, VARIABLES

EMULATOR: Final = "emulator"
IDENTITY: Final = "identity"
SERVER: Final = "server"
WORKER: Final = "worker"
NAMES: Final = (EMULATOR, IDENTITY, SERVER, WORKER)
"""Every part, in the order in which they are shown; they end in the reverse order."""

IAM: Final = "iam"
SECRETMANAGER: Final = "secretmanager"
GATEWAY: Final = "gateway"
DOORS: Final = (IAM, SECRETMANAGER, GATEWAY)
"""What the part ``identity`` serves, each on a port of its own."""

POOL: Final = "local"
PROJECT: Final = "spanctl-local"
INSTANCE: Final = "local"
DATABASE: Final = "main"
CREDENTIALS: Final = f"impersonate:runner@{PROJECT}.iam.gserviceaccount.com"
"""What flows reach the database with: keyless, as is best elsewhere too."""

_PREFECT: Final = (sys.executable, "-P", "-m", "spanctl.local.launch")
_QUERY_SECONDS: Final = 0.5
_HEARTBEAT_SECONDS: Final = 10
_SLOT_SECONDS: Final = 60
_ACCESS: Final = {
    "emulator_host",
    "spanner_endpoint",
    "secretmanager_endpoint",
    "iam_endpoint",
    "ca_file",
    "adc_file",
    "credentials",
    "secret_reader",
}
"""The settings that say how the database is reached."""
_FOREIGN: Final = ("PREFECT_API_", "PREFECT_SERVER_", "PREFECT_UI_", "PREFECT_PROFILE")
_PERSONS: Final = "PREFECT_SERVER_"
_PLACES: Final = tuple(
    f"{_PERSONS}{name}"
    for name in ("API_HOST", "API_PORT", "API_BASE_PATH", "DATABASE_", "DOCKET_", "UI_")
)
"""A person's own settings of servers hold for the stack's, but for where server and data are."""


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where the stack is reached.

    Attributes:
        spanner: ``host:port`` of the emulator.
        prefect_api_url: The Prefect API, without a slash at its end.
    """

    spanner: str
    prefect_api_url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One supervised process. A further part is a further value of this class.

    Attributes:
        name: What it is called; one of those in the stack's order.
        command: How it is started.
        environment: Its whole environment.
        endpoint: Where it answers; empty when it doesn't listen.
        timeout: How long it may take to become healthy, in seconds.
        needs: The parts that have to be up before it can be.
        cleanup: Command that removes what a killed process leaves behind; empty for none.
        fingerprint: Digest of what it was told; a running part with another one is replaced. Empty
            for a part that is kept whatever it was told.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    endpoint: str
    timeout: float
    needs: tuple[str, ...] = ()
    cleanup: tuple[str, ...] = ()
    fingerprint: str = ""


def emulator(folder: Folder, program: Emulator, port: int, environ: Mapping[str, str]) -> Part:
    """Return the Spanner emulator on this port."""
    label = f"spanctl-{hashlib.sha256(str(folder.path).encode()).hexdigest()[:12]}"
    endpoint = f"{LOOPBACK}:{port}"

    return Part(
        name=EMULATOR,
        command=program.command(port, label),
        environment=_environment(folder, _without_prefect(environ)),
        endpoint=endpoint,
        timeout=600.0 if program.image else 30.0,  # an image may have to be pulled first
        cleanup=program.cleanup(label),
    )


def identity(
    folder: Folder, ports: Mapping[str, int], spanner: str, environ: Mapping[str, str]
) -> Part:
    """Return the stand-ins for IAM and Secret Manager, and the gateway to the emulator.

    Args:
        folder: The stack's folder.
        ports: Door to port.
        spanner: ``host:port`` of the emulator.
        environ: The environment that it inherits.
    """
    doors = [word for door in DOORS for word in (f"--{door}", str(ports[door]))]
    logs = str(folder.log(IDENTITY).parent)
    told = ("--folder", str(folder.identity), "--project", PROJECT, "--spanner", spanner, *doors)
    told = (*told, "--logs", logs)
    return Part(
        name=IDENTITY,
        command=(sys.executable, "-P", "-m", "spanctl.local.standins", *told),
        environment=_environment(folder, _without_prefect(environ)),
        endpoint=f"https://{LOOPBACK}:{ports[IAM]}",
        timeout=60.0,
        fingerprint=hashlib.sha256(repr(told).encode()).hexdigest(),
    )


def server(folder: Folder, port: int, environ: Mapping[str, str], opened_by: str) -> Part:
    """Return the Prefect server on this port, with its own SQLite database and its UI.

    Args:
        folder: The stack's folder.
        port: Its port.
        environ: The environment that it inherits.
        opened_by: Digest of the string that opens it.
    """
    url = f"http://{LOOPBACK}:{port}/api"
    home = folder.prefect_home
    persons = {
        name: value
        for name, value in environ.items()
        if name.startswith(_PERSONS) and not name.startswith(_PLACES) and name != auth.VARIABLE
    }
    origins = ",".join(f"http://{host}:{port}" for host in OWN_HOSTS)
    own = {
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": origins,
        **persons,
        "PREFECT_HOME": str(home),
        "PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{home / 'prefect.db'}",
        "PREFECT_SERVER_UI_API_URL": url,  # else its pages look for the API on the default port
        "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(home / "ui"),
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        # So long a deployment's slot is held by a run that died before it was begun.
        "PREFECT_SERVER_CONCURRENCY_INITIAL_DEPLOYMENT_LEASE_DURATION": str(_SLOT_SECONDS),
        "PREFECT_CLI_PROMPT": "false",
    }
    command = ("server", "start", "--host", LOOPBACK, "--port", str(port))
    return Part(
        name=SERVER,
        command=(*_PREFECT, *command),
        environment=_environment(folder, _without_prefect(environ), own),
        endpoint=url,
        timeout=120.0,
        fingerprint=opened_by,
    )


def worker(
    folder: Folder,
    endpoints: Endpoints,
    environ: Mapping[str, str],
    *,
    external: Collection[str],
    opened_by: str = "",
) -> Part:
    """Return the worker, which finds context and API in its environment, and all else in these.

    Args:
        folder: The stack's folder.
        endpoints: What its flow runs work with.
        environ: The environment that it inherits.
        external: The parts that are somebody else's: their Prefect server is reached with their
            settings, and their emulator directly.
        opened_by: Digest of the string that opens the stack's own server.
    """
    inherited = _without_spanner(environ if SERVER in external else _without_prefect(environ))
    emulated = {"SPANNER_EMULATOR_HOST": endpoints.spanner} if EMULATOR in external else {}
    own = {
        **emulated,
        "PREFECT_API_URL": endpoints.prefect_api_url,
        "PREFECT_HOME": str(folder.prefect_home),
        "PREFECT_WORKER_QUERY_SECONDS": str(_QUERY_SECONDS),
        "PREFECT_WORKER_HEARTBEAT_SECONDS": str(_HEARTBEAT_SECONDS),
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
        "PREFECT_CLI_PROMPT": "false",
        CONTEXT_VARIABLE: LOCAL,
        "SPANCTL_CONFIG_HOME": str(config_home(environ)),
        "SPANCTL_PROJECT": PROJECT,
        "SPANCTL_INSTANCE": INSTANCE,
        "SPANCTL_DATABASE": DATABASE,
        "GOOGLE_CLOUD_PROJECT": PROJECT,
    }
    pool = ("worker", "start", "--pool", POOL, "--type", "process", "--name", worker_name())

    return Part(
        name=WORKER,
        command=(*_PREFECT, *pool),
        environment=_environment(folder, inherited, own),
        endpoint="",
        needs=(SERVER,),
        timeout=120.0,
        fingerprint=hashlib.sha256(repr((sorted(own.items()), opened_by)).encode()).hexdigest(),
    )


def settings(folder: Folder, state: State) -> dict[str, str]:
    """Return the settings that lead to the stack which is in this state."""
    doors = {door: f"{LOOPBACK}:{state.ports[door]}" for door in DOORS}
    outside = state.external.get(EMULATOR)
    # Somebody else's emulator is reached as they reach it.
    door = {"emulator_host": outside} if outside else {"credentials": CREDENTIALS}
    prefect = state.external.get(SERVER)
    opened = {} if prefect else {"prefect_auth_string": str(FileReference(folder.auth))}
    return {
        "project": PROJECT,
        "instance": INSTANCE,
        "database": DATABASE,
        **door,
        "spanner_endpoint": doors[GATEWAY],
        "secretmanager_endpoint": doors[SECRETMANAGER],
        "iam_endpoint": f"https://{doors[IAM]}",
        "ca_file": str(Places(folder.identity).bundle),
        "adc_file": str(Places(folder.identity).user),
        "prefect_api_url": prefect or f"http://{LOOPBACK}:{state.ports[SERVER]}/api",
        **opened,
        "work_pool": POOL,
    }


def worker_name() -> str:
    """Return the name under which the worker reports to its pool."""
    return f"spanctl-local-{socket.gethostname()}"


def mark(folder: Folder) -> str:
    """Return the mark that every process of the stack in this folder carries."""
    return str(folder.path.resolve())


def _environment(
    folder: Folder, environ: Mapping[str, str], own: Mapping[str, str] | None = None
) -> dict[str, str]:
    quiet = {
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "SPANNER_DISABLE_BUILTIN_METRICS": "true",
        "PYTHONUNBUFFERED": "1",
    }
    if search := _search_path(environ.get("PYTHONPATH", "")):
        quiet["PYTHONPATH"] = search
    # What lies in the machine's shared folder belongs to whoever ran a stack first.
    quiet["TMPDIR"] = str(folder.temporary)
    found = {**environ, **quiet, **(own or {}), MARK: mark(folder)}
    found.pop(auth.VARIABLE, None)
    spare_loopback(found)
    return found


def _search_path(inherited: str) -> str:
    """Return the PYTHONPATH with which a part, in another folder, imports what we import."""
    folders = [str(Path(entry).absolute()) for entry in inherited.split(os.pathsep) if entry]
    root = str(Path(spanctl.__file__).parent.parent)
    if root not in folders and root not in {
        sysconfig.get_path("purelib"),
        site.getusersitepackages(),
    }:
        folders.append(root)  # a checkout
    return os.pathsep.join(folders)


def _without_spanner(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without what would have flow runs reach another database.

    The context file says how ours is reached; it is read anew by each run, and may change.
    """
    ours = {name for one in VARIABLES if one.name in _ACCESS for name in one.environment}
    return {name: value for name, value in environ.items() if name not in ours}


def _without_prefect(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without what would point our server, or its client, elsewhere."""
    return {
        name: value
        for name, value in environ.items()
        if not name.startswith(_FOREIGN) and name != "PREFECT_HOME"
    }
