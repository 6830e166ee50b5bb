"""One key, one write: programs made at random, crashed, retried, repeated, begun here, ended there.

Each program is Python source of its own; its seed makes the same again. Its calls are told to a
journal beside it, its writes leave a row each, and the two are compared with what the rules say of
each call (:mod:`tests.campaign.identity_programs`).
"""

import contextlib
import json
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from spanctl.spanner import schema
from spanctl.spanner.client import Database
from tests.campaign import ground, identity_programs
from tests.campaign.identity_judge import UNREACHABLE, Evidence, judge
from tests.campaign.identity_source import Program
from tests.campaign.model import Case, Form, Side, Verdict
from tests.campaign.zygote import Ended, Zygote
from tests.faults import raw
from tests.faults.emulator import Emulator
from tests.fixtures import prefect

_CHILD: Final = "tests.campaign.identity_child:execute"
_MODULES: Final = (
    "google.cloud.spanner",
    "prefect.engine",
    "prefect.task_runners",
    "pydantic.v1",
    "spanctl.spanner.run",
    "spanctl_cli.commands.run",
    "tests.campaign.identity_child",
)
_TABLE: Final = """
CREATE TABLE writes (
  program STRING(MAX) NOT NULL, id STRING(36) NOT NULL,
  label STRING(MAX), txn STRING(36), function STRING(MAX), given STRING(MAX)
) PRIMARY KEY (program, id)
"""
_PROGRAMS: Final = {Form.FULL: range(1_900), Form.SHORT: (3, 7)}
_COMMANDS: Final = 8
"""Every so many programs begin with the command line."""
_MAPS: Final = "mapped"
_MAPPED: Final = {Form.FULL: 100, Form.SHORT: 1}
_NAIVE: Final = {Form.FULL: range(60), Form.SHORT: (10,)}
"""Not each program can go wrong: the short form takes one that can."""
_EXECUTIONS: Final = 12
_PATIENCE: Final = 300.0
"""Prefect's client waits 2, 4 ... 32 s, and again, while its server is busy."""
_QUIET: Final = {
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_ENABLED": "false",
}
"""What no program asks the server for: its steps' runs, and events."""
_SOURCES: Final = Path("build") / "campaigns" / "identity"
"""Where the source and the journal of a program are kept that went wrong."""


class Identity:
    """The campaign."""

    name = "identity"
    about = (
        "Programs made at random, as Python source: functions of equal names (of modules, classes,"
        " factories, with closures, defaults, given names), keys and none, arguments of all types"
        " beside ones that are hard to tell from them, branches that only the first attempt takes,"
        " subflows, mapped steps, hooks, tasks, threads, pools, forked processes, asyncio, bodies"
        " that consume what they are given. Bodies fail and die, Commits are aborted, their replies"
        " are lost, processes are killed in between; then the program is executed again, in another"
        " way: as a file, with `spanctl run FILE:FLOW`, by a worker's engine on the same flow run,"
        " as a deployment's run or as a script under the same idempotency key; some are repeated"
        " whole. *Wrong* counts refusals of what must succeed, calls that went through although"
        " they have to be refused, and bodies that saw other arguments; *lost* what was told"
        " COMMITTED while that write isn't there (none, or another one in its place); *duplicate*"
        " further rows of one write; *unresolved* programs that came to no end. *naive* is the same"
        " without the identity of functions, with the first version's digests, and without refusals"
        " of lost contexts."
    )
    lanes = 6

    def cases(self, form: Form) -> Sequence[Case]:
        """The control, then programs of which some map steps, and some begin with a command."""
        return [
            *(Case(f"program/{seed}", {}, Side.NAIVE) for seed in _NAIVE[form]),
            *(Case(f"{_MAPS}/{seed}", {"kind": _MAPS}) for seed in range(_MAPPED[form])),
            *(Case(f"{_kind(seed)}/{seed}", {"kind": _kind(seed)}) for seed in _PROGRAMS[form]),
        ]

    @contextlib.contextmanager
    def stage(self) -> Iterator["Stage"]:
        """Open an emulator and a Prefect server."""
        with (
            Emulator(ground.OBLIGING) as emulator,
            tempfile.TemporaryDirectory() as folder,
            prefect.server(Path(folder), _QUIET) as api,
        ):
            yield Stage(emulator.address, api, Path(folder))


def _kind(seed: int) -> str:
    return "command" if seed % _COMMANDS == _COMMANDS - 1 else "program"


@dataclass(frozen=True, slots=True)
class Stage:
    """The servers that the lanes share."""

    address: str
    api: str
    folder: Path

    @contextlib.contextmanager
    def lane(self) -> Iterator["World"]:
        """Open a database, a zygote and a client of Prefect."""
        environ = {
            "PREFECT_API_URL": self.api,
            "PREFECT_LOGGING_LEVEL": "CRITICAL",
            "PREFECT_LOGGING_TO_API_ENABLED": "false",
            "PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED": "false",
        }
        name = raw.create_database(self.address, [_TABLE])
        with (
            Zygote(_MODULES, environ) as zygote,
            Database(raw.target(self.address, name)) as database,
            httpx.Client(base_url=self.api, timeout=60) as api,
        ):
            schema.install(database)
            yield World(self.address, name, self.folder, database, zygote, api)


class World:
    """One lane."""

    def __init__(  # noqa: PLR0913, PLR0917 - what the lane has opened
        self,
        address: str,
        name: str,
        folder: Path,
        database: Database,
        zygote: Zygote,
        api: httpx.Client,
    ) -> None:
        """Take what the lane has opened."""
        self.address = address
        self.name = name
        self.folder = folder
        self.database = database
        self.zygote = zygote
        self.api = api
        self.flow = self.post("/flows/", {"name": "identity"})["id"]

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Ask Prefect, again while it is busy."""
        for pause in (0.1, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, None):
            answer = self.api.post(path, json=body)
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE or pause is None:
                break
            time.sleep(pause)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    def judge(self, case: Case, dice: random.Random) -> Verdict:
        """Execute a program until it has ended, and compare what it told with the table."""
        number = case.name.replace("/", "-")
        maps = case.given.get("kind") == _MAPS
        program = identity_programs.make(dice, f"{case.side}-{number}", maps=maps)
        folder = self.folder / f"{case.side}-{number}"
        (folder / "marks").mkdir(parents=True)
        for name, source in program.files.items():
            (folder / name).write_text(source)
        job = _Job(self, case, program, folder, dice)
        ended = job.run()
        verdict = judge(program, job.evidence(), finished=job.finished, counted=job.counted)
        if verdict.bad and case.side is Side.OURS:
            told = f"{verdict}\n{job.ways}\n{ended}\n{job.evidence().rows}\n"
            (folder / "verdict").write_text(told)
            shutil.copytree(folder, _SOURCES / folder.name, dirs_exist_ok=True)
        return verdict

    def rows(self, program: str) -> list[tuple[str, str, str]]:
        """Return the writes of a program."""
        query = "SELECT label, txn, given FROM writes WHERE program = @program"
        return [
            (row[0], row[1], row[2]) for row in self.database.query(query, {"program": program})
        ]


def _ends(word: Mapping[str, Any]) -> bool:
    """Whether a program was refused what it needs; a busy Prefect is asked again."""
    return "refused" in word and not word["caught"] and word["refused"] != UNREACHABLE


class _Job:
    """One program's executions."""

    def __init__(
        self, world: World, case: Case, program: Program, folder: Path, dice: random.Random
    ) -> None:
        self.world = world
        self.case = case
        self.program = program
        self.folder = folder
        self.dice = dice
        self.counted: Counter[str] = Counter()
        self.finished = False
        self.ways: list[str] = []
        self.shown: set[str] = set()
        self.key = f"key-{folder.name}" if dice.random() < 0.3 and not program.outside else None
        self.flow_run: str | None = None

    def run(self) -> list[Ended]:
        """Execute it until it has ended, and once more where it may be repeated."""
        ended = []
        repeats = int((self.key is not None or self.program.outside) and self.dice.random() < 0.4)
        for number in range(_EXECUTIONS):
            ended.append(self._execute(number))
            if not self._is_over():
                continue
            self.finished = True
            if not repeats:
                break
            repeats -= 1
            self.counted["repeated"] += 1
        return ended

    def _execute(self, number: int) -> Ended:
        way = self._way(number)
        self.ways.append(way)
        flow_run = self._flow_run_for(way)
        ended = self.world.zygote.run(
            _CHILD,
            patience=_PATIENCE,
            way=way,
            side=self.case.side.value,
            folder=str(self.folder),
            address=self.world.address,
            name=self.world.name,
            flow_run=flow_run,
            key=self.key,
        )
        self.counted.update(
            {f"as a {way}": 1, "killed": int(ended.killed), "hung": int(ended.hung)}
        )
        if way == "command":
            self._read_output()
        return ended

    def _way(self, number: int) -> str:
        if self.program.outside:
            return "script"
        if self.case.given.get("kind") == "command" and (number == 0 or self.key):
            return "command"
        if self.key is None:
            return self.dice.choice(("file", "worker"))
        return self.dice.choice(("file", "deployment", "script"))

    def _flow_run_for(self, way: str) -> str | None:
        """Return the flow run to be executed: the one that was begun, or a new one under a key."""
        if way in {"command", "script"}:
            return None
        world = self.world
        if self.key is None:
            if self.flow_run is None:
                self.flow_run = next((one["run"] for one in self.journal() if "run" in one), None)
            if self.flow_run is not None:
                state = {"state": {"type": "SCHEDULED"}, "force": True}
                world.post(f"/flow_runs/{self.flow_run}/set_state", state)
                return self.flow_run
        labels = {"spanctl.idempotency_key": self.key} if self.key else {}
        begun = {"state": {"type": "PENDING"}, "labels": labels}
        if way == "deployment":
            deployed = {
                "name": self.folder.name,
                "flow_id": world.flow,
                "path": str(self.folder),
                "entrypoint": "program.py:main",
            }
            deployment = world.post("/deployments/", deployed)["id"]
            created = world.post(f"/deployments/{deployment}/create_flow_run", begun)
        else:
            created = world.post("/flow_runs/", {"flow_id": world.flow, **begun})
        if self.key is None:
            self.flow_run = str(created["id"])
        return str(created["id"])

    def _is_over(self) -> bool:
        """Whether it came to its end, or was refused what it doesn't go on without."""
        journal = self.journal()
        begun = max((place for place, one in enumerate(journal) if "run" in one), default=0)
        last = journal[begun:]
        return any("done" in one or _ends(one) for one in last)

    def journal(self) -> list[dict[str, Any]]:
        """Return what the program has told so far."""
        path = self.folder / "journal"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def _read_output(self) -> None:
        text = (self.folder / "output.out").read_text()
        with contextlib.suppress(ValueError):
            told = json.loads(text).get("transactions", [])
            self.shown |= {one["txn_id"] for one in told if one["outcome"] == "COMMITTED"}

    def evidence(self) -> Evidence:
        """Return what is to be judged."""
        rows = self.world.rows(self.folder.name)
        return Evidence(self.journal(), rows, frozenset(self.shown))
