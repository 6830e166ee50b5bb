"""The local stack: started, stopped, mended and looked at."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from spanctl.errors import ConfigurationError, NotFoundError
from spanctl.local import auth, database, emulator, follow, health, parts, plan, processes, sign_in
from spanctl.local.parts import EMULATOR, NAMES, SERVER, Endpoints
from spanctl.local.ports import LOOPBACK, OWN_HOSTS
from spanctl.local.results import (
    DownResult,
    Failure,
    PartEvent,
    PartState,
    PartStatus,
    Phase,
    StackStatus,
)
from spanctl.local.starter import Progress, Starter, clean
from spanctl.local.state import Folder, State
from spanctl.references import FileReference
from spanctl.settings import Contexts, config_home, state_home
from spanctl.variables import LOCAL

_GRACE: Final = 8.0
_PREPARE_TIMEOUT: Final = 90.0
_OPENS: Final = "prefect_auth_string"
_KEPT: Final = (
    "secret_reader",
    "prefect_api_key",
    _OPENS,
    "prefect_headers",
    "repeat_window",
    "heartbeat_interval",
    "presumed_dead_after",
    "recover_every",
)
"""Settings of the context that a person may have added."""
_STRAYS: Final = "ended: {} processes of an earlier stack, of which nothing was remembered"
_LOST: Final = "the emulator had stopped: its data is gone, the database is new and empty"


class Stack:
    """The stack that lives in one folder; every method may be called from any process.

    ``up``, ``down`` and ``reset`` take turns by a lock; ``status`` and ``logs`` never wait.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        prepare: database.Prepare = database.prepare,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        """Nothing is read or started yet.

        Args:
            folder: Where the stack lives; ``local`` in spanctl's state folder when left out.
            prepare: Makes the database on an emulator and returns its ledger's id.
            environ: The environment: what is external, and what the parts inherit.
        """
        self.folder = Folder(folder or state_home(environ) / "local")
        self._prepare = prepare
        self._environ = environ

    def up(
        self,
        progress: Progress = lambda _event: None,
        *,
        spanner_port: int | None = None,
        prefect_port: int | None = None,
    ) -> StackStatus:
        """Start what doesn't run, make the database, write the context ``local``.

        Healthy parts are kept as they are. Parts start side by side. A part that fails is in the
        result's failures, with its last words; the others stay.

        Args:
            progress: Called in this thread with each step.
            spanner_port: Port of the emulator; a free one when left out.
            prefect_port: Port of the Prefect server; a free one when left out.

        Raises:
            ConfigurationError: The emulator isn't installed, or a file can't be read or written.
            UsageError: A port is none, or an environment variable can't be used.
            ConflictError: A port is taken, or what runs contradicts what is asked for.
        """
        self._contexts()  # that can't be read: before anything is made
        self.folder.create()
        with self.folder.locked(lambda: progress(_waiting())):
            state = self.folder.load()
            strays = set() if state.parts else self.strays()
            processes.end(strays, _GRACE)  # else two servers would share one database
            wanted = plan.make(
                state, self._environ, spanner_port=spanner_port, prefect_port=prefect_port
            )
            own = self._parts(wanted)
            starter = Starter(self.folder, wanted.state, self._environ, progress)
            self.folder.save(starter.state)
            self._write_context(wanted)
            failures, notes = self._bring_up(starter, own, wanted, progress)
            notes += (_STRAYS.format(len(strays)),) if strays else ()
        status = self.status()
        return replace(status, failures=failures, notes=notes)

    def _parts(self, wanted: plan.Plan) -> list[parts.Part]:
        own = []
        if wanted.is_own(EMULATOR):
            program = emulator.find(self._environ)
            port = wanted.port(EMULATOR)
            own.append(parts.emulator(self.folder, program, port, self._environ))
        doors, spanner = wanted.state.ports, wanted.endpoints.spanner
        own.append(parts.identity(self.folder, doors, spanner, self._environ))
        opened_by = ""
        if wanted.is_own(SERVER):
            told = (wanted.state.parts.get(name) for name in (SERVER, parts.WORKER))
            in_use = any(health.alive(one) for one in told)
            opened_by = auth.prepare(self.folder, self._environ, in_use=in_use)
            port = wanted.port(SERVER)
            own.append(parts.server(self.folder, port, self._environ, opened_by))
        external = wanted.state.external
        worker = parts.worker(
            self.folder, wanted.endpoints, self._environ, external=external, opened_by=opened_by
        )
        return [*own, worker]

    def _bring_up(
        self, starter: Starter, own: list[parts.Part], wanted: plan.Plan, progress: Progress
    ) -> tuple[tuple[Failure, ...], tuple[str, ...]]:
        for name, endpoint in wanted.state.external.items():
            if health.external_answers(name, endpoint, self._environ):
                progress(PartEvent(name, Phase.EXTERNAL, text=endpoint))
            else:
                starter.refuse(
                    name,
                    f"nothing answers at {endpoint}, which the environment names",
                    f"start it, or run: {plan.unsetting(name)} && spanctl local up",
                )
        for part in own:
            starter.launch(part)
        preparation: database.Preparation | None = None
        while True:
            if preparation is None and starter.is_ready(EMULATOR):
                progress(PartEvent("database", Phase.STARTING))
                preparation = database.Preparation(
                    self._prepare, wanted.endpoints, _PREPARE_TIMEOUT
                )
            made = preparation is not None and preparation.settle(progress)
            if not starter.waiting and (made or preparation is None):
                break
            starter.poll()
        failures = tuple(starter.failures)
        if preparation is None:
            return failures, ()
        if preparation.failure:
            return (*failures, preparation.failure), ()
        before, after = starter.state.ledger_id, preparation.ledger_id
        self.folder.save(replace(starter.state, ledger_id=after))
        return failures, (_LOST,) if before not in {None, after} else ()

    def status(self) -> StackStatus:
        """Look at every part, now.

        Raises:
            ConfigurationError: The state can't be read.
        """
        state = self.folder.load()
        shown = tuple(self._part_status(name, state) for name in NAMES)
        places = {part.name: part.endpoint for part in shown}
        spanner, prefect = places[EMULATOR], places[SERVER]
        endpoints = Endpoints(spanner, prefect) if spanner and prefect else None
        if EMULATOR in state.external or places[parts.IDENTITY] is None:
            return StackStatus(shown, endpoints)
        gateway = f"{LOOPBACK}:{state.ports[parts.GATEWAY]}"
        return StackStatus(shown, endpoints, gateway, parts.CREDENTIALS)

    def _part_status(self, name: str, state: State) -> PartStatus:
        if endpoint := state.external.get(name):
            answers = health.external_answers(name, endpoint, self._environ)
            how = PartState.EXTERNAL if answers else PartState.UNREACHABLE
            return PartStatus(name, how, None, endpoint, None, None)
        log = self.folder.log(name)
        record = state.parts.get(name)
        if record is None:
            return PartStatus(name, PartState.STOPPED, None, None, None, log)
        endpoint = record.endpoint or None
        if not health.alive(record):
            return PartStatus(name, PartState.CRASHED, None, endpoint, None, log)
        trouble = health.trouble(name, state, self._environ, self.folder)
        how = PartState.UNHEALTHY if trouble else PartState.RUNNING
        return PartStatus(name, how, record.pid, endpoint, record.started_at, log)

    def down(self, progress: Progress = lambda _event: None) -> DownResult:
        """End every process of the stack, and theirs; harmless when nothing runs.

        A damaged state file doesn't keep it from that: the processes carry a mark.

        Raises:
            ConfigurationError: The state can't be written.
        """
        if not self._is_there():
            return DownResult((), 0, 0, data_gone=False)
        with self.folder.locked(lambda: progress(_waiting())):
            return self._down()

    def _is_there(self) -> bool:
        """Whether there is something to end or remove; also where its folder was taken away."""
        if not self.folder.path.exists() and self.strays():
            self.folder.create()
        return self.folder.path.exists()

    def _down(self) -> DownResult:
        try:
            state = self.folder.load()
        except ConfigurationError:
            state = State()
        stopped, killed = [], 0
        for name in sorted(state.parts, key=_order, reverse=True):
            record = state.parts[name]
            if health.alive(record):
                stopped.append(name)
                killed += len(processes.end([record.pid], _GRACE))
            if record.cleanup:
                clean(record.cleanup)
        strays = processes.marked(parts.mark(self.folder))
        killed += len(processes.end(strays, _GRACE))
        data_gone = state.ledger_id is not None and EMULATOR in stopped
        if self.folder.state_file.exists():
            self.folder.save(State(ports=state.ports))
        self.folder.tidy()
        return DownResult(tuple(stopped), killed, len(strays), data_gone)

    def reset(self, progress: Progress = lambda _event: None) -> DownResult:
        """End the stack and remove what it kept: runs, secrets, logs, ports, its context.

        Raises:
            ConfigurationError: Something can't be removed.
        """
        self._contexts()  # that can't be read: before anything is removed
        if not self._is_there():
            return DownResult((), 0, 0, data_gone=False)
        with self.folder.locked(lambda: progress(_waiting())):
            result = self._down()
            self.folder.remove()
            contexts = self._contexts()  # others may have changed it while this one waited
            if LOCAL in contexts.contexts:
                contexts.without_context(LOCAL).save()
        return result

    def logs(self, part: str | None = None, lines: int = 50) -> Iterator[follow.Line]:
        """Return the last lines of a part's log, or of each part's.

        Raises:
            NotFoundError: There is no such part.
        """
        return follow.last(self._logs(part), lines)

    def follow(self, part: str | None = None, lines: int = 50) -> Iterator[follow.Line | None]:
        """Return the last lines, then each further line as it is written; it never ends.

        None comes whenever there is nothing new, so that the caller may stop.

        Raises:
            NotFoundError: There is no such part.
        """
        return follow.on(self._logs(part), lines)

    def _logs(self, part: str | None) -> dict[str, Path]:
        if part is not None and part not in NAMES:
            msg = f"the stack has no part {part!r}"
            raise NotFoundError(msg, hint=f"its parts are: {', '.join(NAMES)}")
        return {name: self.folder.log(name) for name in ([part] if part else NAMES)}

    @property
    def is_known(self) -> bool:
        """Whether the folder remembers a stack, running or not."""
        return self.folder.state_file.exists()

    def strays(self) -> set[int]:
        """Return the processes of the stack, whoever started them."""
        return processes.marked(parts.mark(self.folder))

    def troubles(self) -> dict[str, health.Trouble]:
        """Return what keeps parts that are the stack's own from their work.

        What a part suffers from only because another one is in trouble is left out.

        Raises:
            ConfigurationError: The state can't be read.
        """
        state = self.folder.load()
        own = (name for name in NAMES if name not in state.external)
        looked = {name: health.trouble(name, state, self._environ, self.folder) for name in own}
        found = {name: trouble for name, trouble in looked.items() if trouble}
        if SERVER in found and health.alive(state.parts.get(parts.WORKER)):
            found.pop(parts.WORKER, None)
        return found

    def context(self) -> dict[str, str]:
        """Return the settings with which the context ``local`` leads to the stack as it is.

        Raises:
            ConfigurationError: The state can't be read.
        """
        state = self.folder.load()
        return parts.settings(self.folder, state) if parts.GATEWAY in state.ports else {}

    def sign_in(self, page: str) -> Path | None:
        """Write a file that, opened in a browser, opens a page of the stack's own server.

        Only its owner reads it, for it holds what opens that server.

        Args:
            page: The page's URL.

        Returns:
            The file; None where the page is not one of the stack's own server.

        Raises:
            ConfigurationError: The state can't be read, or the file not be written.
        """
        state = self.folder.load()
        kept = auth.read(self.folder)
        if SERVER in state.external or SERVER not in state.ports or kept is None:
            return None
        own = {f"http://{host}:{state.ports[SERVER]}" for host in OWN_HOSTS}
        at = urlsplit(page)
        if f"{at.scheme}://{at.netloc}" not in own:
            return None
        return sign_in.write_page(self.folder, kept, page)

    def _contexts(self) -> Contexts:
        return Contexts.load(config_home(self._environ) / "contexts.toml")

    def _write_context(self, wanted: plan.Plan) -> None:
        contexts = self._contexts()
        values = parts.settings(self.folder, wanted.state)
        before = dict(contexts.contexts.get(LOCAL, {}))
        unknown = Contexts.unknown_in(before)
        kept = {name: before[name] for name in (*_KEPT, *unknown) if name in before}
        if kept.get(_OPENS) == str(FileReference(self.folder.auth)):
            del kept[_OPENS]  # for another server, now that this one is external
        values = {**kept, **values}
        if before != values:
            contexts.with_context(LOCAL, values).save()


def _order(name: str) -> int:
    return NAMES.index(name) if name in NAMES else len(NAMES)


def _waiting() -> PartEvent:
    return PartEvent("stack", Phase.WAITING, text="another spanctl is working on the local stack")
