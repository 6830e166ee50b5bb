"""Ctrl-C and SIGTERM end a command wherever they come."""

import gc
import signal
import sys
import time
import weakref
from collections.abc import Callable, Iterator

import pytest

from spanctl.credentials.hardening import install_excepthook
from spanctl_cli import signals, startup
from spanctl_cli.startup import Terminated

PATIENCE = 30
MEANINGS = [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)]


class Something:
    """What a weak reference can refer to, and what acts as it goes."""

    act: Callable[[], object] | None = None

    def __del__(self) -> None:
        if self.act is not None:
            self.act()


def in_a_finalizer(act: Callable[[], object]) -> None:
    something = Something()
    something.act = act
    del something


def in_a_callback(act: Callable[[], object]) -> None:
    something = Something()
    kept = weakref.ref(something, lambda _: act())
    del something
    assert kept() is None


def in_a_collection(act: Callable[[], object]) -> None:
    def collecting(phase: str, _: object) -> None:
        if phase == "start":
            act()

    gc.callbacks.append(collecting)
    try:
        gc.collect()
    finally:
        gc.callbacks.remove(collecting)


@pytest.fixture
def armed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Signals as they are in the program, before a command begins."""
    before = {number: signal.getsignal(number) for number, _ in MEANINGS}
    monkeypatch.setattr(sys, "unraisablehook", sys.__unraisablehook__)
    startup.arm()
    yield
    signals.rest()
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("armed")
@pytest.mark.parametrize(("number", "meaning"), MEANINGS)
@pytest.mark.parametrize("place", [in_a_finalizer, in_a_callback, in_a_collection])
def test_a_signal_whose_exception_python_drops_comes_again(
    place: Callable[[Callable[[], object]], None],
    number: signal.Signals,
    meaning: type[KeyboardInterrupt],
) -> None:
    """It unwinds the block all the same, and counts as one signal, not as a second.

    Also where credentials were resolved in the midst of the command.
    """

    def block() -> None:
        install_excepthook()
        place(lambda: signal.raise_signal(number))
        time.sleep(PATIENCE)

    with pytest.raises(KeyboardInterrupt) as caught, signals.unwinding():
        block()
    assert type(caught.value) is meaning


@pytest.mark.usefixtures("armed")
def test_what_else_is_dropped_is_told_without_values(capsys: pytest.CaptureFixture[str]) -> None:
    """Within a command and behind it."""

    def fail() -> None:
        token = "Bearer ya29.word"  # noqa: S105 - made up
        raise ValueError(token)

    with signals.unwinding():
        install_excepthook()
        in_a_callback(fail)
        within = capsys.readouterr().err
    in_a_callback(fail)
    for told in (within, capsys.readouterr().err):
        assert "ValueError" in told
        assert "ya29.word" not in told
