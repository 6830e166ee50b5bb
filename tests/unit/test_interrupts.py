"""Signals that are held back while a shield is up, and what becomes of them."""

import signal
import time
from collections.abc import Callable, Iterator

import pytest

from spanctl import interrupts

Heard = list[int]


class StopError(Exception):
    """What a handler raises."""


@pytest.fixture
def heard() -> Iterator[Heard]:
    """What the handlers of two signals have heard; the first of them raises."""
    numbers: Heard = []

    def stop(number: int, _: object) -> None:
        numbers.append(number)
        raise StopError

    def note(number: int, _: object) -> None:
        numbers.append(number)

    handlers: dict[int, Callable[..., None]] = {signal.SIGUSR2: stop, signal.SIGALRM: note}
    before = {number: signal.signal(number, one) for number, one in handlers.items()}
    yield numbers
    for number, one in before.items():
        signal.signal(number, one)


def acts_at_once(heard: Heard) -> bool:
    """Tell whether no shield is up any more."""
    heard.clear()
    signal.raise_signal(signal.SIGALRM)
    return heard == [signal.SIGALRM]


def run(block: Callable[[], object], longest: float | None = None) -> None:
    """Run a block behind a shield, and find that the signal acted in the end."""
    with pytest.raises(StopError), interrupts.shielded(longest):
        block()


def test_a_signal_is_held_back_until_the_shield_ends(heard: Heard) -> None:
    """The block runs to its end; then the signal acts, once."""

    def block() -> None:
        signal.raise_signal(signal.SIGUSR2)
        heard.append(0)

    run(block)
    assert heard == [0, signal.SIGUSR2]
    assert acts_at_once(heard)


def test_a_signal_that_has_waited_long_enough_interrupts_the_block(heard: Heard) -> None:
    """What is awaited may never come; afterwards all is as before."""

    def block() -> None:
        signal.raise_signal(signal.SIGUSR2)
        time.sleep(60)
        heard.append(0)

    run(block, longest=0.05)
    assert heard == [signal.SIGUSR2]
    assert acts_at_once(heard)


def test_what_acted_is_not_sent_again(heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two signals in one shield: the first acts when it ends, and no reminder comes later."""
    reminders: list[Callable[[float], None]] = []
    monkeypatch.setattr(interrupts, "start_new_thread", lambda wait, _: reminders.append(wait))

    def block() -> None:
        signal.raise_signal(signal.SIGUSR2)
        interrupts.deliver(signal.SIGINT, lambda: heard.append(0))  # as the command line's handler

    run(block, longest=60)
    assert len(reminders) == 1
    for wait in reminders:
        wait(0)
    assert heard == [signal.SIGUSR2]
    assert acts_at_once(heard)


def test_a_reminder_that_comes_as_the_shield_ends(
    heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It acts then, and leaves no shield behind."""

    def comes_now(reminder: interrupts.Reminder) -> None:
        reminder.is_due = True
        signal.raise_signal(signal.SIGUSR2)

    monkeypatch.setattr(interrupts.Reminder, "cancel", comes_now)
    run(lambda: signal.raise_signal(signal.SIGUSR2), longest=60)
    assert heard == [signal.SIGUSR2]
    assert acts_at_once(heard)


def test_within_another_shield_that_ones_patience_counts(heard: Heard) -> None:
    """A roll-back is not interrupted because a begin inside of it could be."""

    def block() -> None:
        with interrupts.shielded(0.01):
            signal.raise_signal(signal.SIGUSR2)
            time.sleep(0.1)
        heard.append(0)

    run(block)
    assert heard == [0, signal.SIGUSR2]
