"""The judge of programs: what one told, beside what the table holds and the rules allow."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spanctl.ledger.receipt import Outcome
from tests.campaign.identity_runtime import OwnError
from tests.campaign.identity_source import CODES, May, Program
from tests.campaign.model import Verdict

UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What there is to be judged of a program.

    Attributes:
        journal: What it told, in order.
        rows: Label, txn ID and argument of each write that is in the table.
        shown: Txn IDs that the command line has shown as COMMITTED.
    """

    journal: Sequence[Mapping[str, Any]]
    rows: Sequence[tuple[str, str, str]]
    shown: frozenset[str] = frozenset()


def judge(
    program: Program, evidence: Evidence, *, finished: bool, counted: Mapping[str, int]
) -> Verdict:
    """Compare what a program told with the table, and with what its calls may come to."""
    told = _Judge(program, evidence)
    for word in evidence.journal:
        told.hear(word)
    told.look()
    unresolved = int(not finished) + counted.get("hung", 0)
    duplicate = {label: len(found) - 1 for label, found in told.rows.items() if len(found) > 1}
    why = [*told.wrong, *told.lost, *(f"{label} is there again" for label in duplicate)]
    return Verdict(
        wrong=len(told.wrong),
        lost=len(told.lost),
        duplicate=sum(duplicate.values()),
        unresolved=unresolved,
        counted={**counted, "writes": len(evidence.rows), "refused": told.refused},
        why="; ".join([*why, *(["it came to no end"] if unresolved else [])]),
    )


class _Judge:
    """What is wrong with a program, word by word."""

    def __init__(self, program: Program, evidence: Evidence) -> None:
        self.wrong: list[str] = []
        self.lost: list[str] = []
        self.refused = 0
        self.rows: dict[str, list[tuple[str, str]]] = defaultdict(list)
        self._may = program.may
        self._shown = evidence.shown
        self._label_of: dict[str, str] = {}
        self._given: dict[tuple[str, str], str] = {}
        for label, txn, given in evidence.rows:
            self.rows[label].append((txn, given))
            self._label_of[txn] = label

    def hear(self, word: Mapping[str, Any]) -> None:
        """Judge one line of the journal."""
        if "begun" in word:
            self._given[word["begun"], word["label"]] = word["given"]
        elif "said" in word:
            self._said(word, self._may[word["site"]])
        elif "refused" in word:
            self._refused(word, self._may[word["site"]])
        elif "failed" in word and OwnError.__name__ not in word["failed"]:
            self.wrong.append(f"{word['site']} failed: {word['failed']}")

    def look(self) -> None:
        """Judge what is there without a word, and what the command line has shown."""
        begun = {label for _, label in self._given}
        self.wrong += [f"{label} is there and was never called" for label in {*self.rows} - begun]
        unknown = self._shown - {*self._label_of}
        self.wrong += [f"{txn} was shown as COMMITTED" for txn in unknown]

    def _said(self, word: Mapping[str, Any], may: May) -> None:
        site, label, txn = word["site"], word["label"], word["txn"]
        mine = dict(self.rows.get(label, ()))
        if word["said"] != Outcome.COMMITTED or may not in {May.SUCCEED, May.CONFLICT}:
            self.wrong.append(f"{site} ({may}) was told {word['said']}")
        elif txn not in mine:
            there = self._label_of.get(txn, "nothing")
            self.lost.append(f"{site}: {label} was told COMMITTED, and {there} is there")
        elif mine[txn] != self._given[site, label]:
            self.wrong.append(f"{site}: its body was given {mine[txn]}")

    def _refused(self, word: Mapping[str, Any], may: May) -> None:
        self.refused += 1
        if word["refused"] == UNREACHABLE:  # Prefect was busy: nothing was told of the write
            return
        other = self._label_of.get(word["txn"] or "")
        clashes = may is not May.CONFLICT or other not in {None, word["label"]}
        if word["refused"] not in CODES[may] or not clashes:
            told = f"{word['refused']}, {word['why']}"
            self.wrong.append(f"{word['site']} ({may}) was refused: {told}")
