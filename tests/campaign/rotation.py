"""Rotations killed at every step and at random, while the services misbehave and a reader reads."""

import contextlib
import itertools
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from unittest import mock

from tests.campaign import vault as vaults
from tests.campaign.model import Case, Form
from tests.campaign.rotation_world import TROUBLES, World
from tests.campaign.vault import KINDS
from tests.campaign.zygote import Zygote
from tests.faults.emulator import Emulator

CALLS: Final = 22
"""Calls of a whole rotation, drained and destroyed: each is a step to die at."""

_RANDOM: Final = {Form.FULL: 40, Form.SHORT: 1}
_PAIRS: Final = {Form.FULL: 20, Form.SHORT: 1}
_SHORT_STEPS: Final = (7,)
_MODULES: Final = (
    "google.cloud.secretmanager_v1",
    "google.cloud.spanner_v1",
    "google.cloud.spanner_admin_database_v1",
    "google.auth.transport.requests",
    "spanctl.credentials.store",
    "spanctl.credentials.rotation.driver",
    "spanctl.credentials.rotation.minters",
    "spanctl.spanner.admission",
    "tests.campaign.rotation_child",
)


class Rotation:
    """The campaign."""

    name = "rotation"
    about = (
        "A child rotates a secret, a token's or a service-account key's, tested at the gateway, and"
        " is killed by SIGKILL: before or after each call of Secret Manager, of IAM and of the"
        " test, and at random times; every third time whoever takes over is killed, too. Meanwhile"
        " replies get lost, etags go stale, aliases, states and new keys lag, and payloads arrive"
        " damaged. In the pairs two rotators work at once. A reader resolves the secret and gets"
        " in with it all the time. Then `resume` converges or `abort` undoes. *Lost* counts"
        " moments without a working credential, *duplicate* second promotions, *wrong* a current"
        " version that is not the one reported, *unresolved* what is still under way, or astray."
    )
    lanes = 1  # the switches of the stand-ins hold for all of their clients

    def cases(self, form: Form) -> Sequence[Case]:
        """Every step, every trouble, both kinds."""
        calls = range(1, CALLS + 1) if form is Form.FULL else _SHORT_STEPS
        steps = [
            (kind, f"{when} call {call}", trouble)
            for (kind, when, call), trouble in zip(
                itertools.product(KINDS, ("before", "after"), calls),
                itertools.cycle(TROUBLES),
                strict=False,
            )
        ]
        late = [
            (kind, f"random {number}", trouble)
            for (number, kind), trouble in zip(
                itertools.product(range(_RANDOM[form]), KINDS),
                itertools.cycle(TROUBLES),
                strict=False,
            )
        ]
        pairs = [
            (KINDS[number % 2], f"pair {number}", ("none", "etag conflicts")[number % 3 == 0])
            for number in range(_PAIRS[form])
        ]
        return [
            Case(f"{kind}/{point}/{trouble}", {"kind": kind, "point": point, "trouble": trouble})
            for kind, point, trouble in (*steps, *late, *pairs)
        ]

    @contextlib.contextmanager
    def stage(self) -> Iterator["Stage"]:
        """Open an emulator for the gateway."""
        with Emulator() as emulator, tempfile.TemporaryDirectory() as folder:
            yield Stage(emulator.address, Path(folder))


@dataclass(frozen=True, slots=True)
class Stage:
    """The emulator, and a folder for the stand-ins."""

    emulator: str
    folder: Path

    @contextlib.contextmanager
    def lane(self) -> Iterator["World"]:
        """Start the stand-ins and two zygotes."""
        with vaults.vault(self.emulator, self.folder) as vault:
            environ = vaults.log_in(vault.standins)
            with (
                mock.patch.dict(os.environ, environ),
                Zygote(_MODULES, environ) as one,
                Zygote(_MODULES, environ) as other,
            ):
                yield World(vault, (one, other))
