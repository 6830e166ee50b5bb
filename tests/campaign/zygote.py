"""A warm process that forks children which are made to be killed.

It has imported the SDKs and opened no channel: gRPC survives a fork only if it was never used. A
child opens its own channels, says on a pipe how far it is, and is killed by a real SIGKILL: by
itself at a named point, or by its parent some time after something that it said.
"""

import gc
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

Say = Callable[[Any], None]

_PATIENCE = 90.0


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child ended.

    Attributes:
        status: Its exit code; the negative number of the signal that killed it.
        said: What it said, in order.
        hung: Whether it was killed because it did not end.
        lived: Seconds from its fork to its end.
    """

    status: int
    said: tuple[Any, ...]
    hung: bool
    lived: float

    @property
    def killed(self) -> bool:
        """Whether it died of SIGKILL, as it should."""
        return self.status == -signal.SIGKILL and not self.hung


class Zygote:
    """The warm process; one child at a time, thread-safe."""

    def __init__(self, modules: Sequence[str], environ: Mapping[str, str] | None = None) -> None:
        """Say what it imports, and in which environment; it is started by the block."""
        self._command = [sys.executable, "-m", "tests.campaign.zygote", *modules]
        path = os.pathsep.join(sys.path)
        self._environ = {**os.environ, "PYTHONPATH": path, **(environ or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=self._environ
        )
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.stdin and self._process.stdout:
            self._process.stdin.close()
            self._process.wait(_PATIENCE)
            self._process.stdout.close()

    def run(
        self,
        do: str,
        *,
        kill_on: str | None = None,
        after: float = 0.0,
        by: signal.Signals = signal.SIGKILL,
        patience: float = _PATIENCE,
        **given: Any,
    ) -> Ended:
        """Fork a child and wait for its end.

        Args:
            do: What it calls: ``module:function``, with a :data:`Say` and what is given.
            kill_on: Kill it after it has said this word.
            after: Seconds between that word and the kill.
            by: The signal that is sent then.
            patience: Seconds after which it is killed in any case.
            given: Arguments, as JSON can hold them.
        """
        order = {"do": do, "on": kill_on, "after": after, "by": by, "patience": patience}
        order["given"] = given
        with self._lock:
            assert self._process
            assert self._process.stdin
            assert self._process.stdout
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()
            answer = json.loads(self._process.stdout.readline() or b"null")
        assert answer is not None, "the zygote has died"
        return Ended(answer["status"], tuple(answer["said"]), answer["hung"], answer["lived"])


def die() -> None:
    """Be killed here and now."""
    os.kill(os.getpid(), signal.SIGKILL)


# -- inside of the zygote


def _fork(order: Mapping[str, Any]) -> dict[str, Any]:
    readable, writable = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(readable)
        _child(order, writable)
    os.close(writable)
    try:
        return _Watched(pid, readable, order).until_ended()
    finally:
        os.close(readable)


def _child(order: Mapping[str, Any], writable: int) -> None:
    """Run in the child; never returns."""
    status = 70
    try:
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.dup2(2, 1)  # the zygote's own output is for its orders' answers
        module, _, name = order["do"].partition(":")

        def say(word: Any) -> None:
            os.write(writable, json.dumps(word).encode() + b"\n")

        getattr(importlib.import_module(module), name)(say, **order["given"])
        status = 0
    except KeyboardInterrupt:
        status = 130
    except BaseException:  # noqa: BLE001 - the end of the child's stack
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


class _Watched:
    """A child that is listened to, and killed when it is time."""

    def __init__(self, pid: int, readable: int, order: Mapping[str, Any]) -> None:
        self._pid = pid
        self._readable = readable
        self._order = order
        self._heard = b""
        self._born = time.monotonic()
        self._hung = self._born + order["patience"]
        self._kill = self._hung
        self._sent = False

    def until_ended(self) -> dict[str, Any]:
        watched = os.pidfd_open(self._pid)
        listening = [self._readable, watched]
        try:
            while watched in listening:
                left = max(0.0, self._kill - time.monotonic())
                ready = select.select(listening, [], [], left)[0]
                if not ready:
                    self._send(watched)
                if self._readable in ready and not self._hear():
                    listening.remove(self._readable)
                elif watched in ready and self._readable not in ready:
                    listening.remove(watched)
        finally:
            os.close(watched)
        while self._hear():  # what it said last
            pass
        ended = time.monotonic()
        status = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        words = [json.loads(line) for line in self._heard.split(b"\n")[:-1]]
        hung, lived = ended >= self._hung, ended - self._born
        return {"status": status, "said": words, "hung": hung, "lived": lived}

    def _send(self, watched: int) -> None:
        """Send the signal that was asked for; to one that hangs, SIGKILL."""
        hangs = time.monotonic() >= self._hung
        number = signal.SIGKILL if hangs else signal.Signals(self._order["by"])
        signal.pidfd_send_signal(watched, number)
        self._kill = time.monotonic() + _PATIENCE if hangs else self._hung
        self._sent = True

    def _hear(self) -> bool:
        part = os.read(self._readable, 65536)
        self._heard += part
        word = json.dumps(self._order["on"]).encode() + b"\n"
        waits = self._kill == self._hung and not self._sent
        if self._order["on"] is not None and word in self._heard and waits:
            self._kill = min(self._hung, time.monotonic() + self._order["after"])
        return bool(part)


def main() -> None:
    """Serve orders from standard input until it ends."""
    for name in sys.argv[1:]:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # the children's collector need not copy what they share
    for line in sys.stdin.buffer:
        answer = _fork(json.loads(line))
        sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
