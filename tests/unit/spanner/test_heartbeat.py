"""One thread beats for all executors of a process, whatever one of them meets."""

import threading

import pytest

from spanctl.spanner.heartbeat import Heart


@pytest.fixture
def heart():
    made = Heart()
    yield made
    for name in ("fails", "waits", "beats"):
        made.stop(name)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_one_that_fails_stops_no_other(heart, error) -> None:
    """An interruption of the process raises in this thread, too."""
    failed, beaten = threading.Event(), threading.Event()

    def fails() -> bool:
        failed.set()
        raise error

    def beats() -> bool:
        if failed.is_set():
            beaten.set()
        return True

    heart.start("fails", fails, 0.01)
    heart.start("beats", beats, 0.01)
    assert beaten.wait(60)
    failed.clear()
    assert failed.wait(60)  # and it is tried again


def test_one_that_has_to_wait_is_asked_again(heart) -> None:
    answers = iter([False, False, True])
    beaten = threading.Event()

    def beats() -> bool:
        answer = next(answers, True)
        if answer:
            beaten.set()
        return answer

    heart.start("waits", beats, 0.01)
    assert beaten.wait(60)


def test_without_a_thread_nothing_is_raised(heart, monkeypatch) -> None:
    """Leases matter more; the next executor tries again."""

    def refuse(*_args, **_kwargs):
        msg = "can't start new thread"
        raise RuntimeError(msg)

    beaten = threading.Event()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        heart.start("beats", lambda: bool(beaten.set()) or True, 0.01)
    heart.start("waits", lambda: True, 0.01)
    assert beaten.wait(60)
