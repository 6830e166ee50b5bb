"""The clock of a flow in this process interrupts it, whatever it is doing."""

import time
import weakref

import pytest

from spanctl_cli.runs.limit import TimedOut, limited

PATIENCE = 30


class Something:
    """What a weak reference can refer to."""


def rings_in_a_callback() -> None:
    """Let the clock ring while the callback of a weak reference is called, then go on."""
    something = Something()
    kept = weakref.ref(something, lambda _: time.sleep(PATIENCE))
    del something
    assert kept() is None
    time.sleep(PATIENCE)


def test_a_clock_that_rings_where_nothing_can_be_raised_rings_again() -> None:
    """Python drops what is raised in such a callback; the block ends all the same."""
    with pytest.raises(TimedOut), limited(0.05):
        rings_in_a_callback()
