"""``python -m spanctl.local.standins --folder F --project P ...``: serve until SIGTERM."""

import argparse
import logging
import os
import sys
from pathlib import Path
from typing import Final

from spanctl.credentials.hardening import disable_core_dumps

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
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s"
    )
    for handler in logging.root.handlers:
        handler.addFilter(_is_ours)
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
