"""Eight clients that abort each other on one bank, whose money must stay the same."""

import contextlib
import itertools
import json
import os
import random
import uuid
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Final

from google.cloud.spanner_v1 import KeyRange

from spanctl.spanner import schema
from spanctl.spanner.client import Database
from spanctl.spanner.keysets import KeySet
from spanctl.spanner.run import Run
from tests.campaign import ground
from tests.campaign.model import Case, Form, Stage, Verdict
from tests.campaign.zygote import Say, Zygote
from tests.faults import raw

CLIENTS: Final = 8
ACCOUNTS: Final = 10
MONEY: Final = 1_000_000
_TRANSFERS: Final = {Form.FULL: 125, Form.SHORT: 5}
_CASES: Final = {Form.FULL: 20, Form.SHORT: 1}
_DDL: Final = (
    """CREATE TABLE accounts (
        bank INT64 NOT NULL, k INT64 NOT NULL, v INT64 NOT NULL
    ) PRIMARY KEY (bank, k)""",
    """CREATE TABLE transfers (
        bank INT64 NOT NULL, id STRING(36) NOT NULL,
        giver INT64 NOT NULL, taker INT64 NOT NULL, amount INT64 NOT NULL
    ) PRIMARY KEY (bank, id)""",
)
_MODULES: Final = ("spanctl.spanner.run", "tests.campaign.storm", "tests.faults.raw")


class Storm:
    """The campaign."""

    name = "storm"
    about = (
        f"{CLIENTS} clients, each a process of its own, move money between {ACCOUNTS} accounts of"
        " one bank; the emulator lets one read-write transaction in at a time and aborts the"
        " others. The judge compares each balance with the transfers that are recorded in the same"
        " commits, their number with receipts and with what the clients reported, and the sum of"
        f" the money. A case is {CLIENTS} times {_TRANSFERS[Form.FULL]} transactions."
    )
    lanes = 1

    def cases(self, form: Form) -> Sequence[Case]:
        """Banks, one after the other."""
        transfers = _TRANSFERS[form]
        return [Case(f"bank {one}", {"transfers": transfers}) for one in range(_CASES[form])]

    def stage(self) -> contextlib.AbstractContextManager[Stage]:
        """Open an emulator that aborts as it does by default."""
        return ground.stage(_lane)


@contextlib.contextmanager
def _lane(address: str) -> Iterator["World"]:
    """Open a database and a zygote."""
    name = raw.create_database(address, _DDL)
    try:
        with (
            Zygote(_MODULES) as zygote,
            Database(raw.target(address, name)) as database,
        ):
            schema.install(database, ["accounts", "transfers"])
            yield World(address, name, database, zygote)
    finally:
        raw.drop_database(address, name)


# -- in the children


def work(say: Say, *, bank: int, seed: int, **given: Any) -> None:
    """Fork the clients, and say what each of them reported."""
    readable, writable = os.pipe()
    pids = []
    for number in range(CLIENTS):
        pid = os.fork()
        if pid == 0:
            _client(writable, bank=bank, number=number, seed=seed, **given)
        pids.append(pid)
    os.close(writable)
    with os.fdopen(readable) as stream:
        for line in stream:
            say(json.loads(line))
    ends = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    assert not any(ends), ends


def _client(writable: int, *, number: int, **given: Any) -> None:
    """Run one client; never returns."""
    status = 70
    try:
        told = _transfer_all(number=number, **given)
        os.write(writable, json.dumps(told).encode() + b"\n")
        status = 0
    finally:
        os._exit(status)


def _transfer_all(  # noqa: PLR0913 - as the child is told
    *, address: str, name: str, bank: int, number: int, transfers: int, seed: int
) -> dict[str, int]:
    dice = random.Random(f"{seed}/{number}")  # noqa: S311 - no secret
    committed = attempts = 0
    with (
        Database(raw.target(address, name)) as database,
        Run(database, f"storm-{bank}-{number}") as run,
    ):
        for _ in range(transfers):
            giver, taker = dice.sample(range(ACCOUNTS), 2)
            body = partial(
                transfer, bank=bank, giver=giver, taker=taker, amount=dice.randint(1, 100)
            )
            done = run.step(ground.STEP, body, expect_replay=False)
            committed += 1
            attempts += done.attempts
    return {"committed": committed, "attempts": attempts}


def transfer(txn: Any, *, bank: int, giver: int, taker: int, amount: int) -> None:
    """Move money, and record that in the same commit."""
    keys = KeySet(keys=[[bank, giver], [bank, taker]])
    held = dict(txn.read("accounts", ["k", "v"], keys))
    moved = [[bank, giver, held[giver] - amount], [bank, taker, held[taker] + amount]]
    txn.update("accounts", ["bank", "k", "v"], moved)
    columns = ["bank", "id", "giver", "taker", "amount"]
    txn.insert("transfers", columns, [[bank, str(uuid.uuid4()), giver, taker, amount]])


# -- around them


class World:
    """The lane."""

    def __init__(self, address: str, name: str, database: Database, zygote: Zygote) -> None:
        """Take what the lane has opened."""
        self._address = address
        self._name = name
        self._database = database
        self._zygote = zygote
        self._next = itertools.count(1)

    def judge(self, case: Case, dice: random.Random) -> Verdict:
        """Let the clients loose on a new bank; audit it."""
        bank = next(self._next)
        rows = [[bank, k, MONEY] for k in range(ACCOUNTS)]
        with Run(self._database, f"bank-{bank}") as run:
            run.step("open", lambda txn: txn.insert("accounts", ["bank", "k", "v"], rows))
        ended = self._zygote.run(
            "tests.campaign.storm:work",
            patience=600,
            address=self._address,
            name=self._name,
            bank=bank,
            transfers=case.given["transfers"],
            seed=dice.randrange(2**32),
        )
        assert ended.status == 0, ended
        return self._audit(bank, list(ended.said), ended.lived)

    def _audit(self, bank: int, said: list[dict[str, int]], took: float) -> Verdict:
        reported = sum(one["committed"] for one in said)
        mine = KeySet(ranges=[KeyRange(start_closed=[bank], end_closed=[bank])])
        held = dict(self._database.read("accounts", ["k", "v"], mine))
        expected: dict[int, int] = defaultdict(lambda: MONEY)
        recorded = 0
        for giver, taker, amount in self._database.read(
            "transfers", ["giver", "taker", "amount"], mine
        ):
            recorded += 1
            expected[giver] -= amount
            expected[taker] += amount
        receipts = self._receipts(bank)
        torn = [k for k in range(ACCOUNTS) if held[k] != expected[k]]
        wrong = len(torn) + (recorded != receipts) + (sum(held.values()) != ACCOUNTS * MONEY)
        bad = wrong or recorded != reported
        return Verdict(
            wrong=wrong,
            duplicate=max(0, recorded - reported),
            lost=max(0, reported - recorded),
            counted={
                "transactions": reported,
                "attempts aborted": sum(one["attempts"] for one in said) - reported,
            },
            timed={"a transaction, all clients together": took / max(1, reported)},
            why=f"{reported} reported, {recorded} there, {receipts} receipts" if bad else "",
        )

    def _receipts(self, bank: int) -> int:
        sql = (
            "SELECT COUNT(*) FROM spanctl_receipts"
            " WHERE kind = 'COMMITTED' AND STARTS_WITH(operation_key, @root)"
        )
        ((count,),) = self._database.query(sql, {"root": f"storm-{bank}-"})
        return int(count)
