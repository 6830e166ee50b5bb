"""Runs of files gone on with: in a process of their own, where and as they were typed."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from spanctl.errors import ConflictError
from spanctl.orchestration.filerun import FileRun
from spanctl.orchestration.model import FlowRun

_COMMAND: Final = (sys.executable, "-m", "spanctl_cli.entry", "run", "--resume")
_LEFT_ALONE: Final = ("/bin/sh", "-c", 'exec "$@" &', "spanctl")
"""Hands a process over to init: nobody here waits for it."""


def start(run: FlowRun, logs: Path) -> Path:
    """Start a process that goes on with a run of a file, and leave it to itself.

    Args:
        run: The run, which has ended.
        logs: The folder for what it prints.

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
    logs.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = logs / f"{run.id}.log"
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(handle, "ab") as log:
        subprocess.run(  # noqa: S603 - our own command line
            [*_LEFT_ALONE, *_COMMAND, run.id],
            check=True,
            cwd=kept.folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return path
