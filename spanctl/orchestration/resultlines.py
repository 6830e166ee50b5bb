"""Lines in which Prefect calls a result that it could not store a transaction.

Beside the outcome of a Spanner transaction they read as if that had failed. They may quote a value.
"""

import os
import re
from typing import Final

_ABOUT: Final = re.compile(
    r"An error was encountered while (committing|rolling back) transaction"
    r"|Encountered an error while (serializing|persisting) result"
)
_REASON: Final = re.compile(r"\[Errno (\d+)\]")


def explained(message: str, error: BaseException | None = None) -> str | None:
    """Return what such a line means; None for any other line.

    Args:
        message: The line, with its traceback or without.
        error: What it was written for, where that is known.
    """
    if _ABOUT.match(message) is None:
        return None
    found = _REASON.search(f"{message}\n{error or ''}")
    why = f" ({os.strerror(int(found[1]))})" if found else ""
    return f"Prefect could not store a result{why}; what is committed in Spanner is not affected"
