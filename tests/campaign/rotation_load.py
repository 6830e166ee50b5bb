"""Rotation after rotation, while transactions go through the gateway without a pause."""

import contextlib
import itertools
import os
import random
import tempfile
import threading
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Final, Self
from unittest import mock

from spanctl.credentials.live import LiveCredentials
from spanctl.credentials.reference import SecretName
from spanctl.credentials.resolve import resolve
from spanctl.credentials.rotation.actions import Ending
from spanctl.credentials.rotation.minters import TokenMinter
from spanctl.resources import DatabaseName
from spanctl.spanner.client import Database, Target
from spanctl.spanner.run import Run
from tests.campaign import ground
from tests.campaign import vault as vaults
from tests.campaign.ground import Report, Truth
from tests.campaign.model import Case, Form, Verdict, total
from tests.campaign.vault import Vault
from tests.faults.emulator import INSTANCE, PROJECT, Emulator

_CASES: Final = {Form.FULL: 50, Form.SHORT: 3}
_CLIENTS: Final = 2
_LEAST: Final = 10
"""Transactions that have to end between two rotations."""

_LIFETIME: Final = timedelta(seconds=30)
"""Of a token: short, so that a client must take up rotated ones, and longer than any rotation."""

_RECONNECT: Final = 5
"""Transactions after which the second client is made anew, as each flow run makes one."""

_PATIENCE: Final = 120.0


class RotationLoad:
    """The campaign."""

    name = "rotation-load"
    about = (
        "Two clients commit transactions through the gateway, with the credentials that a secret"
        f" holds, without a pause; the second connects anew after every {_RECONNECT}. A case is one"
        f" rotation meanwhile, and {_LEAST} further transactions of each; tokens live"
        f" {_LIFETIME.seconds} s. *Lost* counts transactions that failed; rows, events and receipts"
        " are compared with what was reported."
    )
    lanes = 1

    def cases(self, form: Form) -> Sequence[Case]:
        """Rotations, one after the other."""
        return [Case(f"rotation {number}") for number in range(_CASES[form])]

    @contextlib.contextmanager
    def stage(self) -> Iterator["Stage"]:
        """Open an emulator for the gateway."""
        with Emulator(ground.OBLIGING) as emulator, tempfile.TemporaryDirectory() as folder:
            yield Stage(emulator.address, Path(folder))


@dataclass(frozen=True, slots=True)
class Stage:
    """The emulator, and a folder for the stand-ins."""

    emulator: str
    folder: Path

    @contextlib.contextmanager
    def lane(self) -> Iterator["World"]:
        """Start the stand-ins, put a first token into a secret, and begin the load."""
        with (
            vaults.vault(self.emulator, self.folder) as vault,
            mock.patch.dict(os.environ, vaults.log_in(vault.standins)),
            ground.ledger(self.emulator) as name,
            Truth(self.emulator, name) as truth,
        ):
            secret = vault.new_secret("load")
            rotate(vault, secret)
            target = Target(
                database=DatabaseName(PROJECT, INSTANCE, name),
                endpoint=vault.address.gateway,
                credentials=f"secret:{secret}",
                identity=vault.endpoints,
            )
            with contextlib.ExitStack() as clients:
                loads = [
                    clients.enter_context(Load(target, truth, number)) for number in range(_CLIENTS)
                ]
                yield World(vault, secret, loads)


def rotate(vault: Vault, secret: SecretName) -> int | None:
    """Put a new, short-lived token in the place of the current one; returns its version."""
    rotator = vault.rotator(secret, "token")
    rotator.minter = TokenMinter(vault.endpoints, vault.user, vault.account, lifetime=_LIFETIME)
    rotator.policy = replace(vaults.HASTY, drain=_LIFETIME)
    done = rotator.rotate()
    assert done.ending is Ending.PROMOTED, done
    return done.version


class Load:
    """A client in a thread: transaction after transaction, each compared with the database."""

    def __init__(self, target: Target, truth: Truth, number: int) -> None:
        """Say where it writes; the block starts and stops it."""
        self._target = target
        self._truth = truth
        self._keys = itertools.count(number, _CLIENTS)
        self._anew = number > 0
        self._stop = threading.Event()
        self._ended = threading.Condition()
        self._verdicts: list[Verdict] = []
        self._versions: set[int | None] = set()
        self._died: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name=f"load-{number}")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def take(self, least: int) -> tuple[list[Verdict], int]:
        """Wait for some transactions; return their verdicts, and how many versions they used."""
        with self._ended:
            came = self._ended.wait_for(
                lambda: self._died or len(self._verdicts) >= least, _PATIENCE
            )
            if self._died is not None:
                raise self._died
            assert came, "the load has come to a halt"
            verdicts, self._verdicts = self._verdicts, []
            used, self._versions = len(self._versions), set()
        return verdicts, used

    def _work(self) -> None:
        try:
            while not self._stop.is_set():
                live = self._resolve()
                with (
                    Database(self._target, credentials=live) as database,
                    Run(database, f"load-{uuid.uuid4()}") as run,
                ):
                    for done in itertools.count(1):
                        self._one(run, live)
                        if self._stop.is_set() or (self._anew and done >= _RECONNECT):
                            break
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            with self._ended:
                self._died = error
                self._ended.notify_all()

    def _resolve(self) -> LiveCredentials:
        return resolve(self._target.credentials, self._target.identity)

    def _one(self, run: Run, live: LiveCredentials) -> None:
        k = next(self._keys)
        self._truth.prepare(k)
        said, error = ground.reported(
            lambda: run.step(
                ground.STEP, partial(ground.count_up, k=k), key=str(k), options=ground.PROMPT
            )
        )
        verdict = ground.judge(said, self._truth.of(k, run.root, str(k)))
        if said != Report.COMMITTED:
            verdict = total(verdict, Verdict(lost=1, why=f"{said}: {error!r}"))
        with self._ended:
            self._verdicts.append(verdict)
            self._versions.add(live.live.version if live.live else None)
            self._ended.notify_all()


class World:
    """The lane: the load goes on through all of its cases."""

    def __init__(self, vault: Vault, secret: SecretName, loads: Sequence[Load]) -> None:
        """Take what the lane has opened."""
        self._vault = vault
        self._secret = secret
        self._loads = loads

    def judge(self, case: Case, dice: random.Random) -> Verdict:
        """Rotate, and let the load go on for a while."""
        del case, dice
        rotate(self._vault, self._secret)
        taken = [load.take(_LEAST) for load in self._loads]
        verdicts = [verdict for found, _ in taken for verdict in found]
        switched = sum(used - 1 for _, used in taken)
        return total(
            *verdicts,
            counted={"transactions": len(verdicts), "versions taken up meanwhile": switched},
        )
