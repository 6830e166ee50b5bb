"""One process for all stand-ins: started in order, stopped by SIGTERM, logged without secrets."""

import asyncio
import hashlib
import logging
import signal
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc
import grpc.aio

from spanctl.doors import open_wide
from spanctl.errors import ConfigurationError
from spanctl.local.standins import gateway, https, secretservice
from spanctl.local.standins.accounts import Accounts
from spanctl.local.standins.bootstrap import bootstrap
from spanctl.local.standins.certificates import Certificates
from spanctl.local.standins.files import Places
from spanctl.local.standins.iam import Iam
from spanctl.local.standins.oauth import OAuth
from spanctl.local.standins.policy import Policy
from spanctl.local.standins.secrets import SecretManager
from spanctl.local.standins.secretstore import Secrets
from spanctl.local.standins.status import RefusedError, Status
from spanctl.local.standins.store import Store
from spanctl.local.standins.switches import Switches
from spanctl.local.standins.tokens import Tokens

LOOPBACK: Final = "127.0.0.1"

_log = logging.getLogger(__name__)
_GRACE: Final = 2.0
_THREADS: Final = 8
_REQUEST_AT_MOST: Final = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the process is told.

    Attributes:
        folder: Where everything is kept.
        project: The id of the only project that there is.
        iam: Port of the IAM stand-in.
        secretmanager: Port of the Secret Manager stand-in.
        gateway: Port of the gateway.
        spanner: ``host:port`` of the emulator behind it.
    """

    folder: Path
    project: str
    iam: int
    secretmanager: int
    gateway: int
    spanner: str


def run(options: Options) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        ConfigurationError: A port is taken, or the files can't be read or written.
    """
    open_wide()
    try:
        asyncio.run(_serve(options))
    except OSError as error:
        msg = f"the stand-ins can't start: {error.strerror or error}"
        raise ConfigurationError(msg, hint="look at the folder and the ports") from error
    except sqlite3.DatabaseError as error:
        msg = f"the stand-ins can't read {Places(options.folder).database}: {error}"
        raise ConfigurationError(msg, hint="run: spanctl local reset") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class _Core:
    """What the stand-ins share."""

    options: Options
    places: Places
    certificates: Certificates
    store: Store
    tokens: Tokens
    policy: Policy

    @classmethod
    def open(cls, options: Options) -> "_Core":
        places = Places(options.folder)
        certificates = Certificates(places)
        store = Store(places.database)
        return cls(
            options=options,
            places=places,
            certificates=certificates,
            store=store,
            tokens=Tokens(store, lambda: _switches(places)),
            policy=Policy(store, options.project),
        )

    def switches(self) -> Switches:
        return _switches(self.places)


def _switches(places: Places) -> Switches:
    try:
        return Switches.load(places.switches)
    except ConfigurationError as error:
        raise RefusedError(Status.INTERNAL, error.message) from error


async def _serve(options: Options) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    core = _Core.open(options)
    async with AsyncExitStack() as closing:
        closing.callback(core.store.close)
        manager = _secret_manager(core)
        closing.push_async_callback(asyncio.to_thread, manager.wait_for_termination)
        closing.callback(manager.stop, _GRACE)
        channel = grpc.aio.insecure_channel(options.spanner, options=gateway.OPTIONS)
        closing.push_async_callback(channel.close)
        handler = gateway.Gateway(core.tokens, core.policy, channel)
        door = grpc.aio.server(handlers=(handler,), options=(*gateway.OPTIONS, *gateway.DOOR))
        closing.push_async_callback(door.stop, _GRACE)
        _bind(door, options.gateway, core.certificates)
        await door.start()
        front = _front(core)  # last: it answers for the health of all of them
        closing.callback(front.stop)
        _log.info("serving")
        await stopped.wait()
    _log.info("stopped")


def _secret_manager(core: _Core) -> grpc.Server:
    project, number = core.options.project, project_number(core.options.project)
    secrets = Secrets(core.store, f"projects/{number}", core.switches)
    service = SecretManager(secrets, core.policy, project, number)
    server = grpc.server(
        ThreadPoolExecutor(_THREADS),
        handlers=(secretservice.handlers(service, core.tokens, core.switches),),
        options=(
            *gateway.DOOR,
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", _REQUEST_AT_MOST),
        ),
    )
    _bind(server, core.options.secretmanager, core.certificates)
    server.start()
    return server


def _front(core: _Core) -> https.Server:
    base = f"https://{LOOPBACK}:{core.options.iam}"
    accounts = Accounts(core.store, core.options.project)
    bootstrap(accounts, core.policy, core.places, base)
    iam = Iam(core.store, accounts, core.tokens, core.policy, base)
    oauth = OAuth(core.store, accounts, core.tokens)
    api = https.Api(iam, oauth, core.tokens, accounts, base)
    return https.Server(api, core.options.iam, core.certificates.context)


def _bind(server: grpc.Server | grpc.aio.Server, port: int, certificates: Certificates) -> None:
    try:
        server.add_secure_port(f"{LOOPBACK}:{port}", certificates.for_grpc())
    except RuntimeError as error:
        msg = f"port {port} is taken"
        raise ConfigurationError(msg, hint="name another one") from error


def project_number(project: str) -> str:
    """Return the number that the project goes by in Secret Manager's answers: 12 digits."""
    digest = hashlib.sha256(project.encode()).digest()
    return str(10**11 + int.from_bytes(digest[:8], "big") % (9 * 10**11))
