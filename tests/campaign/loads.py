"""Clients that write without a pause, each transaction compared with the database."""

import itertools
import json
import subprocess
import sys
import threading
import uuid
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import partial
from typing import Final, Self

from spanctl.credentials.live import LiveCredentials
from spanctl.credentials.resolve import resolve
from spanctl.spanner.client import Database, Target
from spanctl.spanner.run import Run
from tests.campaign import ground
from tests.campaign.ground import Held, Report, Truth
from tests.campaign.model import Verdict, total
from tests.fixtures.cli import child_environment

RECONNECT: Final = 5
"""Transactions after which a client that begins anew does so, as each flow run makes one."""

_PATIENCE: Final = 120.0


class Load(ABC):
    """A client in a thread; a context manager that starts and stops it."""

    def __init__(self, truth: Truth, keys: "itertools.count[int]") -> None:
        """Take the truth, and the rows that it counts up, each of them once."""
        self._truth = truth
        self._keys = keys
        self._stop = threading.Event()
        self._ended = threading.Condition()
        self._verdicts: list[Verdict] = []
        self._version: int | None = None
        self._taken_up = 0
        self._died: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=type(self).__name__)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def take(self, least: int) -> tuple[list[Verdict], int]:
        """Wait for some transactions; return their verdicts, and how often the token changed."""
        with self._ended:
            came = self._ended.wait_for(
                lambda: self._died or len(self._verdicts) >= least, _PATIENCE
            )
            if self._died is not None:
                raise self._died
            assert came, "the load has come to a halt"
            verdicts, self._verdicts = self._verdicts, []
            changed, self._taken_up = self._taken_up, 0
        return verdicts, changed

    def _run(self) -> None:
        try:
            self.work()
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            with self._ended:
                self._died = error
                self._ended.notify_all()

    @abstractmethod
    def work(self) -> None:
        """Write until told to stop."""

    def next(self) -> int:
        """Return the next row, prepared."""
        k = next(self._keys)
        self._truth.prepare(k)
        return k

    def note(self, said: str, held: Held, error: object, version: int | None) -> None:
        """Judge one transaction: anything but a commit is lost."""
        verdict = ground.judge(said, held)
        if said != Report.COMMITTED:
            verdict = total(verdict, Verdict(lost=1, why=f"{said}: {error!r}"))
        with self._ended:
            self._verdicts.append(verdict)
            self._taken_up += self._version not in {None, version}
            self._version = version
            self._ended.notify_all()


class Client(Load):
    """A client of the library, for as long as it lives or made anew all the time."""

    def __init__(
        self,
        truth: Truth,
        keys: "itertools.count[int]",
        target: Target,
        turn: threading.Lock,
        *,
        anew: bool,
    ) -> None:
        """Say where it writes, and whether it is made anew all the time.

        Clients that share a turn write one after the other: the emulator has room for one
        transaction, and on a busy machine each would abort the other's until its deadline.
        """
        super().__init__(truth, keys)
        self._target = target
        self._turn = turn
        self._anew = anew

    def work(self) -> None:
        """Write until told to stop."""
        while not self._stop.is_set():
            live = resolve(self._target.credentials, self._target.identity)
            with (
                Database(self._target, credentials=live) as database,
                Run(database, f"load-{uuid.uuid4()}") as run,
            ):
                for done in itertools.count(1):
                    self._one(run, live)
                    if self._stop.is_set() or (self._anew and done >= RECONNECT):
                        break

    def _one(self, run: Run, live: LiveCredentials) -> None:
        k = self.next()
        body = partial(ground.count_up, k=k)
        with self._turn:
            said, error = ground.reported(
                lambda: run.step(ground.STEP, body, key=str(k), options=ground.PROMPT)
            )
        version = live.live.version if live.live else None
        self.note(said, self._truth.of(k, run.root, str(k)), error, version)


class Flows(Load):
    """Prefect flow runs, one after the other, in a process of their own."""

    def __init__(
        self, truth: Truth, keys: "itertools.count[int]", environ: Mapping[str, str]
    ) -> None:
        """Say what the flows find in their environment."""
        super().__init__(truth, keys)
        self._environ = environ

    def work(self) -> None:
        """Run flows until told to stop."""
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.campaign.flowload"],
            env=child_environment(self._environ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with process:
            assert process.stdin
            assert process.stdout
            while not self._stop.is_set():
                rows = [self.next() for _ in range(RECONNECT)]
                process.stdin.write(f"{' '.join(map(str, rows))}\n")
                process.stdin.flush()
                answer = json.loads(process.stdout.readline() or "null")
                assert answer is not None, "the flows' process has died"
                for k, (txn_id, said, error) in zip(rows, answer["told"], strict=True):
                    held = self._truth.held(k, [txn_id] if txn_id else [])
                    self.note(said, held, error, answer["version"])
