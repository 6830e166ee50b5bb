"""Runs of files gone on with: in a process of their own, where and as they were typed."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from spanctl.errors import ConflictError
from spanctl.invocation import DATABASE_LABEL
from spanctl.orchestration.filerun import FileRun
from spanctl.orchestration.model import FlowRun
from spanctl.resources import DatabaseName
from spanctl.variables import CONTEXT_VARIABLE

_COMMAND: Final = (
    *(sys.executable, "-P", "-m", "spanctl_cli.entry"),
    *("run", "--if-crashed", "--resume"),
)
_LEFT_ALONE: Final = ("/bin/sh", "-c", 'exec "$@" &', "spanctl")
"""Hands a process over to init: nobody here waits for it."""


def start(run: FlowRun, logs: Path, context: str | None) -> Path:
    """Start a process that goes on with a run of a file, and leave it to itself.

    Args:
        run: The run, which has ended as Crashed.
        logs: The folder for what it prints.
        context: The context that it runs in; None for the one in use.

    Returns:
        The file with what it prints.

    Raises:
        ConflictError: It can't be gone on with here; the hint is what to type, and where.
    """
    kept = FileRun.from_labels(run.labels)
    why = "how it is run isn't known" if kept is None else kept.refusal
    if kept is None or why:
        msg = f"flow run {run.id} can't be gone on with here: {why}"
        hint = f"on {kept.host}: {kept.command(run.id)}" if kept else ""
        raise ConflictError(msg, hint=hint, flow_run=run.id)
    path = logs / f"{run.id}.log"
    try:
        logs.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(handle, "ab") as log:
            subprocess.run(  # noqa: S603 - our own command line
                [*_LEFT_ALONE, *_COMMAND, run.id],
                check=True,
                cwd=kept.folder,
                env=_environment(run, context),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
    except (OSError, subprocess.CalledProcessError) as error:
        msg = f"no process could be started for flow run {run.id}: {error}"
        hint = f"on {kept.host}: {kept.command(run.id)}"
        raise ConflictError(msg, hint=hint, flow_run=run.id) from None
    return path


def _environment(run: FlowRun, context: str | None) -> dict[str, str]:
    """Return the environment: the context and database of the run, and no other run's."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT__")}
    if context is not None:
        kept[CONTEXT_VARIABLE] = context
    if database := run.labels.get(DATABASE_LABEL):
        name = DatabaseName.parse(str(database))
        kept |= {
            "SPANCTL_PROJECT": name.project,
            "SPANCTL_INSTANCE": name.instance,
            "SPANCTL_DATABASE": name.database,
        }
    return kept
