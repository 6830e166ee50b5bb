"""The journal of a campaign: finished cases, line by line, so that a killed run goes on."""

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.campaign.model import Case, Done, Form, Side, Verdict


class StaleJournalError(Exception):
    """The journal was written by other versions or for other cases: it can't be gone on with."""


class Journal:
    """One file for each campaign, seed and form; thread-safe."""

    def __init__(
        self, folder: Path, name: str, seed: int, form: Form, versions: Mapping[str, str]
    ) -> None:
        """Say where it is and what it is of; nothing is written yet."""
        self.path = folder / f"{name}-{form}-{seed}.jsonl"
        self._head = {"campaign": name, "seed": seed, "form": str(form), **versions}
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self._done: dict[tuple[Side, str], Done] = {}
        self._spent = 0.0

    def begin(self, *, resume: bool) -> None:
        """Start anew, or read what an earlier run has finished.

        Raises:
            StaleJournalError: What is there is of other versions.
        """
        self._began = time.monotonic()
        if resume and self.path.exists():
            self._read()
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(self._head) + "\n")

    def _read(self) -> None:
        head, *lines = self.path.read_text().splitlines(keepends=True)
        if json.loads(head) != self._head:
            raise StaleJournalError(self.path)
        whole = [line for line in lines if line.endswith("\n")]
        for line in whole:
            entry = json.loads(line)
            self._spent = max(self._spent, entry["spent"])
            self._keep(
                Done(
                    name=entry["case"],
                    side=Side(entry["side"]),
                    verdict=Verdict(**entry["verdict"]),
                )
            )
        # A line that the death of the writer has cut short would spoil the next one.
        self.path.write_text("".join([head, *whole]))

    def _keep(self, done: Done) -> None:
        self._done[done.side, done.name] = done

    def has(self, case: Case) -> bool:
        """Tell whether a case is finished."""
        return (case.side, case.name) in self._done

    def add(self, case: Case, verdict: Verdict) -> None:
        """Note that a case is finished; it is on the disk when this returns."""
        with self._lock:
            self._keep(Done(name=case.name, side=case.side, verdict=verdict))
            entry: dict[str, Any] = {
                "case": case.name,
                "side": case.side,
                "spent": round(self.spent, 3),
                "verdict": asdict(verdict),
            }
            with self.path.open("a") as stream:
                stream.write(json.dumps(entry) + "\n")

    @property
    def done(self) -> list[Done]:
        """What is finished, in the order in which it was."""
        return list(self._done.values())

    @property
    def spent(self) -> float:
        """Seconds that this run and the ones that it goes on with have taken."""
        return self._spent + time.monotonic() - self._began
