"""A flow that runs with a version by its number keeps it, as its owner sees with ``creds show``."""

import json
from typing import Any

import pytest
from prefect import flow

from spanctl.flows import transaction
from tests.fixtures.cli import Spanctl
from tests.fixtures.creds import User
from tests.local.identity import PARENT

pytestmark = [pytest.mark.emulator, pytest.mark.prefect, pytest.mark.usefixtures("prefect")]


@transaction
def nothing(txn: Any) -> None:
    del txn


def test_a_running_flow_pins_its_version(
    user: User, spanctl: Spanctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pin is there from the first step to the flow's end, over a rotation, and then gone."""
    email = user.standins.email("runner")
    assert spanctl("creds", "create", user.secret, "--impersonate", email).exit_code == 0
    monkeypatch.setenv("SPANCTL_CREDENTIALS", f"secret:{PARENT}/secrets/{user.secret}@1")

    def pins() -> list[Any]:
        shown = json.loads(spanctl("creds", "show", user.secret, "-o", "json").stdout)
        return [*shown.get("pins", [])]

    seen: list[Any] = []

    @flow
    def pinned() -> None:
        nothing(key="first")
        assert spanctl("creds", "rotate", user.secret).exit_code == 0
        seen.extend(pins())
        nothing(key="second")

    pinned()
    assert [pin["version"] for pin in seen] == [1]
    assert pins() == []
