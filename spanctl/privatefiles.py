"""Files that only their owner reads, written whole or not at all."""

import os
from pathlib import Path


def write_private(path: Path, data: bytes) -> None:
    """Write a file, mode 600; what is there is replaced, a symbolic link too.

    Raises:
        OSError: It can't be written; what was there stays.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.unlink(missing_ok=True)  # its mode, or what it leads to, would stay as it is
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
