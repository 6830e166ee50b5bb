"""The ways in which a program is executed, each in a child of a zygote; and the code of before."""

import asyncio
import contextlib
import faulthandler
import inspect
import os
import runpy
import ssl
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.events.clients import NullEventsClient
from prefect.events.worker import EventsWorker
from prefect.flow_engine import run_flow
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

from spanctl.flows import body, callsite, contexts, engines, launch
from spanctl.ledger import canonical
from spanctl.spanner import resolution
from spanctl_cli.main import main as command_line
from tests.campaign import identity_runtime
from tests.campaign.model import Side
from tests.campaign.zygote import Say
from tests.faults.emulator import INSTANCE, PROJECT

FILE: Final = "program.py"
FLOW: Final = f"{FILE}:main"
OUTPUT: Final = "output"
_HANGS: Final = 240.0

_TRUST: Final = ssl.create_default_context()
ssl.create_default_context = lambda *_, **__: _TRUST  # type: ignore[assignment]
"""Every client of Prefect makes one, and needs none: it is made once for all children."""


def execute(  # noqa: PLR0913 - as its zygote is told
    say: Say,
    *,
    way: str,
    side: str,
    folder: str,
    address: str,
    name: str,
    flow_run: str | None,
    key: str | None,
) -> None:
    """Execute a program once, to its end or its death.

    Args:
        say: Tells the parent the exit code.
        way: One of :data:`WAYS`.
        side: Whether the code of before is tried.
        folder: The program's.
        address: Where Spanner is.
        name: The database.
        flow_run: The flow run, where the way takes one.
        key: The idempotency key, where there is one.
    """
    os.environ.update(
        {identity_runtime.FOLDER: folder, identity_runtime.KEY: key or ""},
        SPANCTL_PROJECT=PROJECT,
        SPANCTL_INSTANCE=INSTANCE,
        SPANCTL_DATABASE=name,
        SPANNER_EMULATOR_HOST=address,
        PYTHONPATH=os.pathsep.join([folder, os.environ.get("PYTHONPATH", "")]),
    )
    os.chdir(folder)
    sys.path.insert(0, folder)
    faulthandler.dump_traceback_later(_HANGS)  # into the program's folder
    EventsWorker.set_client_override(NullEventsClient)  # the server is not asked for any
    identity_runtime.arm()
    if side == Side.NAIVE:
        forget_identity()
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}), _output(folder):
        try:
            WAYS[way](flow_run, key)
        except SystemExit as ended:
            say(ended.code or 0)


@contextlib.contextmanager
def _output(folder: str) -> Iterator[None]:
    """Keep what is written to standard output, and to standard error."""
    for number, end in ((1, "out"), (2, "err")):
        path = Path(folder) / f"{OUTPUT}.{end}"
        descriptor = os.open(
            path, os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if end == "out" else os.O_APPEND)
        )
        os.dup2(descriptor, number)
        os.close(descriptor)
    yield
    sys.stdout.flush()


def load(flow_run: str | None, key: str | None) -> None:
    """Load the file's flow and execute a flow run that is there."""
    del key
    flow = launch.load(FLOW)
    with get_client(sync_client=True) as client:
        found = client.read_flow_run(UUID(flow_run))
    ended = run_flow(flow, flow_run=found, return_type="state")
    if inspect.iscoroutine(ended):
        asyncio.run(ended)


def cli(flow_run: str | None, key: str | None) -> None:
    """Run ``spanctl run FILE:FLOW``."""
    del flow_run
    under = ["--idempotency-key", key] if key else []
    sys.argv = ["spanctl", "run", FLOW, "-o", "json", *under]
    command_line()


def engine(flow_run: str | None, key: str | None) -> None:
    """Execute a flow run that is there, as a worker's process does: of a deployment or of none."""
    del key
    with get_client(sync_client=True) as client:
        deployed = client.read_flow_run(UUID(flow_run)).deployment_id
    if deployed is None:
        os.environ["PREFECT__FLOW_ENTRYPOINT"] = str(Path(FILE).absolute()) + ":main"
    else:
        here = Path.cwd().with_name(f"{Path.cwd().name}-worker")
        here.mkdir(exist_ok=True)
        os.chdir(here)  # Prefect copies a deployment's folder to where it is
    os.environ["PREFECT__FLOW_RUN_ID"] = str(flow_run)
    sys.argv = ["engine"]
    engines.end_at_once()
    runpy.run_module("prefect.engine", run_name="__main__", alter_sys=True)


def script(flow_run: str | None, key: str | None) -> None:
    """Run ``python FILE``."""
    del flow_run, key
    with contextlib.suppress(Exception):  # the journal tells
        runpy.run_path(str(Path(FILE).absolute()), run_name="__main__")


WAYS: Final[Mapping[str, Any]] = {
    "file": load,
    "command": cli,
    "worker": engine,
    "deployment": engine,
    "script": script,
}


def forget_identity() -> None:
    """Take what tells writes apart away: steps go by their bare names, as they did before."""

    def nothing(*_: Any, **__: Any) -> None:
        return None

    def lossy(key: bytes, arguments: Mapping[str, Any], names: Any = None) -> str:
        del names
        return canonical.arguments_digest(key, arguments)

    taken = resolution.Resolution._taken  # noqa: SLF001

    patches: tuple[tuple[Any, str, Any], ...] = (
        (callsite, "_identity", nothing),
        (callsite, "_refuse_lost", nothing),
        (contexts, "in_hook", lambda: False),
        (body.Step, "_refuse_changed", nothing),
        (resolution, "arguments_digest", lossy),
        (resolution.Resolution, "_taken", lambda self: self._digest or taken(self)),
    )
    for where, name, instead in patches:
        assert hasattr(where, name), name
        setattr(where, name, instead)
