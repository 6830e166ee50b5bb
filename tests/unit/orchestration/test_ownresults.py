"""Prefect's results: kept for their owner alone, and read only where nobody else can write."""

import asyncio
import os
import pwd
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prefect.filesystems import LocalFileSystem
from prefect.results import ResultStore

import spanctl.flows  # noqa: F401 - it has Prefect keep results so
from spanctl.orchestration import ownresults

_STRANGER = 65534


@pytest.fixture(autouse=True)
def _open_umask(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(ownresults, "_told", set())
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    return tmp_path / "results"


def store_in(storage: Path) -> ResultStore:
    return ResultStore(
        result_storage=LocalFileSystem(basepath=str(storage)), cache_result_in_memory=False
    )


def modes(folder: Path) -> set[int]:
    return {stat.S_IMODE(one.stat().st_mode) for one in [folder, *folder.rglob("*")]}


def open_folder(storage: Path) -> None:
    storage.chmod(0o777)


def open_inner_folder(storage: Path) -> None:
    (storage / "in").chmod(0o772)


def open_file(storage: Path) -> None:
    (storage / "in" / "one").chmod(0o666)


def give_file_away(storage: Path) -> None:
    os.chown(storage / "in" / "one", _STRANGER, _STRANGER)


def share_away(storage: Path) -> None:
    os.chown(storage / "in", -1, _STRANGER)
    (storage / "in").chmod(0o770)


def give_folder_away(storage: Path) -> None:
    os.chown(storage, _STRANGER, _STRANGER)


def in_time(store: ResultStore, key: str) -> Any:
    return store.read(key).result


def later(store: ResultStore, key: str) -> Any:
    async def read() -> Any:
        return (await store.aread(key)).result

    return asyncio.run(read())


def test_what_is_written_is_its_owners_alone(storage: Path) -> None:
    """Folders are 700 and files 600 whatever the umask, one that lay there open too."""
    store_in(storage).write(key="in/one", obj={"a": 1})
    assert modes(storage) == {0o700, 0o600}
    open_file(storage)
    store_in(storage).write(key="in/one", obj={"a": 2})
    assert modes(storage) == {0o700, 0o600}
    assert in_time(store_in(storage), "in/one") == {"a": 2}

    async def write() -> None:
        await store_in(storage).awrite(key="in/two", obj=3)

    asyncio.run(write())
    assert modes(storage) == {0o700, 0o600}
    assert later(store_in(storage), "in/two") == 3
    control = storage.with_name("control")
    LocalFileSystem(basepath=str(control)).write_path("in/one", b"", _sync=True)
    assert modes(control) == {0o777, 0o666}, "the control: Prefect by itself goes by the umask"


@pytest.mark.parametrize("read", [in_time, later])
@pytest.mark.parametrize(
    "spoil",
    [open_folder, open_inner_folder, open_file, share_away, give_file_away, give_folder_away],
)
def test_what_others_may_have_written_is_not_read(
    storage: Path,
    spoil: Callable[[Path], None],
    read: Callable[[ResultStore, str], Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It counts as not there, and one line says which path, why, and what to type."""
    if "away" in spoil.__name__ and os.geteuid() != 0:
        pytest.skip("needs root, to give something away")
    store_in(storage).write(key="in/one", obj=1)
    assert read(store_in(storage), "in/one") == 1, "the control"
    spoil(storage)
    assert not store_in(storage).exists("in/one")
    for _ in range(2):
        with pytest.raises(PermissionError):
            read(store_in(storage), "in/one")
    (told,) = caplog.messages
    assert str(storage) in told
    assert ("PREFECT_LOCAL_STORAGE_PATH" if "give" in spoil.__name__ else "chmod go-w") in told


@pytest.mark.parametrize("spoil", [open_folder, open_inner_folder])
def test_nothing_is_written_where_others_can(storage: Path, spoil: Callable[[Path], None]) -> None:
    """They could replace it, and have code run by whoever reads it."""
    store_in(storage).write(key="in/one", obj=1)
    spoil(storage)
    with pytest.raises(PermissionError):
        store_in(storage).write(key="in/two", obj=2)
    assert not (storage / "in" / "two").exists()


def test_a_group_of_its_owner_alone_is_nobody_else(
    storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a umask of 002 a folder from before is its to write to; until it has members."""
    store_in(storage).write(key="in/one", obj=1)
    user = pwd.getpwuid(os.geteuid())
    os.chown(storage, -1, user.pw_gid)
    storage.chmod(0o775)
    own = SimpleNamespace(gr_name=user.pw_name, gr_mem=[user.pw_name])
    monkeypatch.setattr(ownresults.grp, "getgrgid", {user.pw_gid: own}.__getitem__)
    assert in_time(store_in(storage), "in/one") == 1
    for shared in ({"gr_name": "staff"}, {"gr_mem": ["another"]}):
        changed = SimpleNamespace(**{**vars(own), **shared})
        monkeypatch.setattr(ownresults.grp, "getgrgid", {user.pw_gid: changed}.__getitem__)
        with pytest.raises(PermissionError):
            in_time(store_in(storage), "in/one")
