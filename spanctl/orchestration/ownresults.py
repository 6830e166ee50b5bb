"""Results on this machine's disk: written for their owner alone, read from nobody else's hand.

Prefect keeps results as pickles, and reading one runs what it says. It makes folders and files by
the umask, and reads whatever lies under a result's name. Tested with Prefect 3.8.8.
"""

import errno
import grp
import logging
import os
import pwd
import shlex
import stat
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Final

_CALLS: Final = "prefect._internal.compatibility.blocks"
"""The module through which Prefect reads and writes each result, and the parameters of delays."""
_CALLERS: Final = ("prefect.results", "prefect.task_worker")
_NAMES: Final = ("call_explicitly_sync_block_method", "call_explicitly_async_block_method")

_log: Final = logging.getLogger("prefect.results")
_told: Final[set[Path]] = set()


def install() -> None:
    """Have it so in this process, whatever of Prefect was imported before; twice is once."""
    calls = import_module(_CALLS)
    keep_own(calls)
    for caller in filter(None, map(sys.modules.get, _CALLERS)):  # they have the names already
        for name in _NAMES:
            setattr(caller, name, getattr(calls, name))


def keep_own(calls: ModuleType | Any) -> None:  # noqa: ANN401 - a module
    """Change Prefect's module of such calls.

    Args:
        calls: The module, just imported.
    """
    now, later = (getattr(calls, name) for name in _NAMES)
    if getattr(now, "keeps_own", False):
        return
    filesystem: Any = import_module("prefect.filesystems").LocalFileSystem

    def is_plain(block: Any, method: str) -> bool:  # noqa: ANN401 - a block
        return getattr(type(block), method, None) is getattr(filesystem, method, block)

    def call(block: Any, method: str, args: Any, kwargs: Any) -> Any:  # noqa: ANN401 - Prefect's
        if is_plain(block, method):
            return _on_disk(block, method, *args, **kwargs)
        return now(block, method, args, kwargs)

    async def call_async(block: Any, method: str, args: Any, kwargs: Any) -> Any:  # noqa: ANN401
        if is_plain(block, method):
            return _on_disk(block, method, *args, **kwargs)
        return await later(block, method, args, kwargs)

    call.keeps_own = True  # type: ignore[attr-defined]
    for name, changed in zip(_NAMES, (call, call_async), strict=True):
        setattr(calls, name, changed)


def _on_disk(block: Any, method: str, path: str, content: bytes = b"") -> bytes | str:  # noqa: ANN401
    base, found = block._resolve_path(None), block._resolve_path(path)  # noqa: SLF001 - as its own
    if method == "read_path":
        return read_own(base, found)
    write_own(base, found, content)
    return str(found)


def read_own(base: Path, path: Path) -> bytes:
    """Return what a file below a folder holds, if nobody else can have put it there.

    Raises:
        OSError: It can't be read, or somebody else can have.
    """
    for folder in _folders(base, path):
        _refuse_others(folder, folder.stat())
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as stream:
        status = os.fstat(stream.fileno())
        _refuse_others(path, status)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is no file", str(path))
        return stream.read()


def write_own(base: Path, path: Path, content: bytes) -> None:
    """Write a file below a folder, whatever the umask: mode 600, new folders 700.

    Raises:
        OSError: It can't be written, or others can write there.
    """
    for folder in _folders(base, path):
        folder.mkdir(mode=stat.S_IRWXU, parents=True, exist_ok=True)
        _refuse_others(folder, folder.stat())
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, stat.S_IRUSR | stat.S_IWUSR)
    with os.fdopen(handle, "wb") as stream:
        _refuse_others(path, os.fstat(handle), is_closed=True)
        os.fchmod(handle, stat.S_IRUSR | stat.S_IWUSR)
        os.ftruncate(handle, 0)
        stream.write(content)


def _folders(base: Path, path: Path) -> Iterator[Path]:
    """Yield the folders from a base to a file, the outermost first."""
    yield base
    for part in path.relative_to(base).parts[:-1]:
        base /= part
        yield base


def _refuse_others(path: Path, status: os.stat_result, *, is_closed: bool = False) -> None:
    """Refuse what is another user's, or, unless it is about to be closed, open to others."""
    is_own = status.st_uid in {0, os.geteuid()}
    if is_own and (is_closed or not _is_open(status)):
        return
    why = "others can write to it" if is_own else "it is another user's"
    mend = f"chmod go-w {shlex.quote(str(path))}" if is_own else "set PREFECT_LOCAL_STORAGE_PATH"
    if path not in _told:
        _told.add(path)
        _log.warning(
            "results at %s are neither read nor kept, for %s, and reading one runs code: %s",
            *(path, why, mend),
        )
    raise PermissionError(errno.EACCES, why, str(path))


def _is_open(status: os.stat_result) -> bool:
    """Whether others may write; a group of this user alone, as Linux makes it, is nobody else."""
    if status.st_mode & stat.S_IWOTH:
        return True
    return bool(status.st_mode & stat.S_IWGRP) and not _is_private(status.st_gid)


def _is_private(group: int) -> bool:
    try:
        user, found = pwd.getpwuid(os.geteuid()), grp.getgrgid(group)
    except KeyError:
        return False
    is_theirs = (user.pw_gid, user.pw_name) == (group, found.gr_name)
    return is_theirs and not {*found.gr_mem} - {user.pw_name}
