"""Rotation after rotation, while transactions go through the gateway without a pause."""

import contextlib
import itertools
import os
import random
import tempfile
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Final
from unittest import mock

from spanctl.credentials.reference import SecretName
from spanctl.credentials.rotation.actions import Ending
from spanctl.credentials.rotation.minters import TokenMinter
from spanctl.resources import DatabaseName
from spanctl.spanner.client import Target
from tests.campaign import ground
from tests.campaign import vault as vaults
from tests.campaign.ground import Truth
from tests.campaign.loads import RECONNECT, Client, Flows, Load
from tests.campaign.model import Case, Form, Verdict, total
from tests.campaign.vault import Vault
from tests.faults.emulator import INSTANCE, PROJECT, Emulator
from tests.fixtures import prefect

_CASES: Final = {Form.FULL: 50, Form.SHORT: 3}
_LEAST: Final = 10
"""Transactions that have to end between two rotations."""

_LIFETIME: Final = timedelta(seconds=30)
"""Of a token: short, so that a client must take up rotated ones, and longer than any rotation."""

MakeLoads = Callable[["Scene", contextlib.ExitStack], list[Load]]


@dataclass(frozen=True, slots=True)
class Scene:
    """What a load is made of.

    Attributes:
        target: Where it writes: the gateway, with the credentials that the secret holds.
        truth: The database past the gateway.
        folder: For what a load keeps.
    """

    target: Target
    truth: Truth
    folder: Path


class _UnderLoad(ABC):
    """What both campaigns share."""

    lanes = 1

    @contextlib.contextmanager
    def stage(self) -> Iterator["Stage"]:
        """Open an emulator for the gateway."""
        with Emulator(ground.OBLIGING) as emulator, tempfile.TemporaryDirectory() as folder:
            yield Stage(emulator.address, Path(folder), self.loads)

    @staticmethod
    @abstractmethod
    def loads(scene: Scene, around: contextlib.ExitStack) -> list[Load]:
        """Start what writes all the while."""


class RotationLoad(_UnderLoad):
    """The campaign."""

    name = "rotation-load"
    about = (
        "Two clients commit transactions through the gateway, turn by turn and without a pause,"
        " with the credentials that a secret holds; the second connects anew after every"
        f" {RECONNECT}. A case is one rotation meanwhile, and {_LEAST} further transactions of"
        f" each; tokens live {_LIFETIME.seconds} s. *Lost* counts transactions that failed; rows,"
        " events and receipts are compared with what was reported."
    )

    def cases(self, form: Form) -> Sequence[Case]:
        """Rotations, one after the other."""
        return [Case(f"rotation {number}") for number in range(_CASES[form])]

    @staticmethod
    def loads(scene: Scene, around: contextlib.ExitStack) -> list[Load]:
        """One client that lives through all, one that is made anew."""
        keys, turn = itertools.count(), threading.Lock()
        return [
            around.enter_context(Client(scene.truth, keys, scene.target, turn, anew=anew))
            for anew in (False, True)
        ]


class RotationFlows(_UnderLoad):
    """The campaign with flow runs; it has no short form, for a Prefect server takes its time."""

    name = "rotation-flows"
    about = (
        f"The same while Prefect flow runs of {RECONNECT} steps commit the transactions, one after"
        " the other in one process, against a Prefect server; they find database and credentials"
        " in their environment."
    )

    def cases(self, form: Form) -> Sequence[Case]:
        """Rotations, one after the other."""
        count = _CASES[form] if form is Form.FULL else 0
        return [Case(f"rotation {number}") for number in range(count)]

    @staticmethod
    def loads(scene: Scene, around: contextlib.ExitStack) -> list[Load]:
        """One process of flow runs, and the server that they tell of themselves."""
        home = scene.folder / "prefect"
        home.mkdir()
        api = around.enter_context(prefect.server(home))
        environ = {**_settings(scene.target), "PREFECT_API_URL": api, "PREFECT_HOME": str(home)}
        environ["PREFECT_LOGGING_LEVEL"] = "ERROR"
        return [around.enter_context(Flows(scene.truth, itertools.count(), environ))]


def _settings(target: Target) -> dict[str, str]:
    return {
        "SPANCTL_PROJECT": target.database.project,
        "SPANCTL_INSTANCE": target.database.instance,
        "SPANCTL_DATABASE": target.database.database,
        "SPANCTL_SPANNER_ENDPOINT": target.endpoint,
        "SPANCTL_CREDENTIALS": target.credentials,
        "SPANCTL_SECRETMANAGER_ENDPOINT": target.identity.secretmanager,
        "SPANCTL_IAM_ENDPOINT": target.identity.iam,
        "SPANCTL_CA_FILE": target.identity.ca_file or "",
    }


@dataclass(frozen=True, slots=True)
class Stage:
    """The emulator, a folder for the stand-ins, and what writes."""

    emulator: str
    folder: Path
    loads: MakeLoads

    @contextlib.contextmanager
    def lane(self) -> Iterator["World"]:
        """Start the stand-ins, put a first token into a secret, and begin the load."""
        with (
            vaults.vault(self.emulator, self.folder) as vault,
            mock.patch.dict(os.environ, vaults.log_in(vault.standins)),
            ground.ledger(self.emulator) as name,
            Truth(self.emulator, name) as truth,
            contextlib.ExitStack() as around,
        ):
            secret = vault.new_secret("load")
            rotate(vault, secret)
            target = Target(
                database=DatabaseName(PROJECT, INSTANCE, name),
                endpoint=vault.address.gateway,
                credentials=f"secret:{secret}",
                identity=vault.endpoints,
            )
            loads = self.loads(Scene(target, truth, self.folder), around)
            yield World(vault, secret, loads)


def rotate(vault: Vault, secret: SecretName) -> None:
    """Put a new, short-lived token in the place of the current one."""
    rotator = vault.rotator(secret, "token")
    rotator.minter = TokenMinter(vault.endpoints, vault.user, vault.account, lifetime=_LIFETIME)
    rotator.policy = replace(vaults.HASTY, drain=_LIFETIME)
    done = rotator.rotate()
    assert done.ending is Ending.PROMOTED, done


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
        return total(
            *verdicts,
            counted={
                "transactions": len(verdicts),
                "times a rotated token was taken up": sum(changed for _, changed in taken),
            },
        )
