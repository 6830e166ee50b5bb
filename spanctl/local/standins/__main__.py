"""``python -m spanctl.local.standins --folder F --project P ...``: serve until SIGTERM."""

import argparse
import logging
import os
import sys
from pathlib import Path
from typing import Any, Final

from spanctl.credentials.hardening import disable_core_dumps
from spanctl.printable import printable

_PORTS: Final = ("iam", "secretmanager", "gateway")
_TALKATIVE: Final = ("GRPC_TRACE", "GRPC_VERBOSITY", "GOOGLE_SDK_PYTHON_LOGGING_SCOPE")


def main() -> None:
    """Serve with the options on the command line.

    Raises:
        SystemExit: A port is taken, or a file can't be read or written.
    """
    parser = argparse.ArgumentParser(prog="python -m spanctl.local.standins")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--project", required=True)
    parser.add_argument("--logs", type=Path, help="a folder whose logs are kept small")
    parser.add_argument("--spanner", required=True, metavar="HOST:PORT")
    for name in _PORTS:
        parser.add_argument(f"--{name}", type=int, required=True, metavar="PORT")
    given = parser.parse_args()
    _keep_secrets()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine("%(asctime)s %(levelname)s %(message)s"))
    handler.addFilter(_is_ours)
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    from spanctl.errors import SpanctlError
    from spanctl.local import logs
    from spanctl.local.standins import serve

    if given.logs is not None:
        logs.keep_small(given.logs)
    del given.logs
    try:
        serve.run(serve.Options(**vars(given)))
    except SpanctlError as error:
        sys.exit(f"{error.message}; {error.hint}")


class _OneLine(logging.Formatter):
    """A record is a line: what a client sent ends none, and begins none."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the base class's
        record.message = printable(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: ANN401, N802 - the base class's
        lines = super().formatException(ei).splitlines()
        return "\n".join(f"  {printable(line)}" for line in lines)


def _is_ours(record: logging.LogRecord) -> bool:
    """Whether a record is worth a line: gRPC calls it an error when a client leaves a stream."""
    error = record.exc_info[1] if record.exc_info else None
    return type(error).__name__ != "ExecuteBatchError"


def _keep_secrets() -> None:
    """Leave nothing readable behind: no open file, no core dump, no log of the wire."""
    os.umask(0o077)
    disable_core_dumps()
    for name in _TALKATIVE:
        os.environ.pop(name, None)


if __name__ == "__main__":
    main()
