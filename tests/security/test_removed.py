"""``local reset``, ``local down`` and ``context delete`` remove what is theirs alone."""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from spanctl.clock import now
from spanctl.errors import ConfigurationError
from spanctl.local import parts, processes
from spanctl.local.processes import MARK
from spanctl.local.stack import Stack
from spanctl.local.state import Folder, Record, State
from spanctl.settings import Contexts
from tests.fixtures.cli import Spanctl
from tests.security.stranger import NOBODY, PATIENCE

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give files away")
FOLDERS: Final = ("logs", "prefect-home", "identity")
FILES: Final = ("stack.json", "temporary", "prefect-auth", "prefect.html")


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """A stack that was up, and whose folders are full."""
    environ = {"SPANCTL_CONFIG_HOME": str(tmp_path), "SPANCTL_STATE_HOME": str(tmp_path / "s")}
    made = Stack(environ=environ)
    made.folder.create()
    made.folder.save(State())
    made.folder.auth.touch()
    made.folder.page.touch()
    for name in FOLDERS:
        (made.folder.path / name / "inner").mkdir(parents=True)
        for number in range(3):
            (made.folder.path / name / f"file-{number}").touch()
    Contexts(tmp_path / "contexts.toml").with_context("local", {}).save()
    temporary = made.folder.temporary
    yield made
    processes.end(made.strays(), 1.0)  # of a test that failed
    shutil.rmtree(temporary, ignore_errors=True)


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    """What is none of the stack's."""
    path = tmp_path / "precious"
    path.mkdir()
    (path / "file").write_text("kept")
    return path


def left(stack: Stack) -> set[str]:
    return {path.name for path in stack.folder.path.iterdir()}


# -- links, and what is not the stack's


@pytest.mark.parametrize("name", [*FOLDERS, *FILES])
@pytest.mark.parametrize("to", ["file", ".", "nowhere"])
def test_no_link_is_followed(stack: Stack, precious: Path, name: str, to: str) -> None:
    """One in the place of what is the stack's goes; what it leads to stays."""
    place = stack.folder.path / name
    if place.is_dir():
        shutil.rmtree(place)
    else:
        place.unlink()
    place.symlink_to(precious / to)
    stack.reset()
    assert left(stack) == {"lock"}
    assert [path.name for path in precious.iterdir()] == ["file"]
    assert (precious / "file").read_text() == "kept"


def test_a_link_in_the_place_of_the_lock_makes_nothing(stack: Stack, precious: Path) -> None:
    """It is said, and nothing was touched."""
    (stack.folder.path / "lock").symlink_to(precious / "new")
    with pytest.raises(ConfigurationError, match="lock"):
        stack.reset()
    assert not (precious / "new").exists()
    assert left(stack) >= {*FOLDERS, *FILES}


@pytest.mark.parametrize("then", ["down", "reset"])
def test_files_of_others_stay(stack: Stack, then: str) -> None:
    """Whatever they are called; only what a killed process of ours left goes."""
    foreign = {".git", ".keep", ".stack.json.old", ".env.12", "identity.bak", "notes"}
    for name in foreign:
        (stack.folder.path / name).mkdir()
        (stack.folder.path / name / "file").touch()
    (stack.folder.path / ".nfs01").touch()
    for name in (*FOLDERS, *FILES):
        (stack.folder.path / f".{name}.4711").touch()
    (stack.folder.path / ".identity.4712" / "inner").mkdir(parents=True)
    getattr(stack, then)()
    kept = {*FOLDERS, "stack.json"} if then == "down" else set()
    assert left(stack) == {"lock", ".nfs01", *foreign, *kept}


def test_what_can_not_be_removed_is_told(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """What opens the server is gone all the same, and the next ``down`` tries the rest again."""

    def refuse(path: str, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", path)

    temporary = stack.folder.temporary
    with monkeypatch.context() as patched:
        patched.setattr(os, "rmdir", refuse)
        with pytest.raises(ConfigurationError, match=f"can't remove {temporary}: Permission"):
            stack.down()
    assert not stack.folder.auth.exists()
    stack.down()
    assert not temporary.exists()


# -- other users


def folder_given_away(stack: Stack) -> None:
    os.chown(stack.folder.path, int(NOBODY), int(NOBODY))
    os.chown(stack.folder.state_file, int(NOBODY), int(NOBODY))


def file_given_away(stack: Stack) -> None:
    os.chown(stack.folder.state_file, int(NOBODY), int(NOBODY))


def nothing_given_away(_: Stack) -> None:
    """The control."""


@needs_root
@pytest.mark.parametrize("give", [folder_given_away, file_given_away, nothing_given_away])
@pytest.mark.parametrize("then", ["down", "reset", "status", "up"])
def test_no_program_that_another_user_names_is_run(
    stack: Stack, tmp_path: Path, give: Callable[[Stack], None], then: str
) -> None:
    """Who made the folder first, where all may write, would have it run by the next ``down``."""
    marker = tmp_path / "marker"
    gone = Record(2**22 - 1, "boot:1", "", now(), "", ("touch", str(marker)))
    stack.folder.save(State(parts={parts.EMULATOR: gone}))
    give(stack)
    if give is nothing_given_away:
        if then in {"down", "reset"}:
            getattr(stack, then)()
            assert marker.exists()
        return
    if give is folder_given_away or then in {"status", "up"}:
        before = left(stack)
        with pytest.raises(ConfigurationError, match="is another user's"):
            getattr(stack, then)()
        assert left(stack) >= before
    else:
        getattr(stack, then)()
        assert not stack.folder.load().parts
    assert not marker.exists()


# -- killed, twice at once, and running


class KilledError(BaseException):
    """The process was killed here."""


def killed_at(step: int, patched: pytest.MonkeyPatch) -> None:
    """Have the process die at a call that removes or renames something."""
    calls = iter(range(1, step + 1))

    def dying(real: Callable[..., None]) -> Callable[..., None]:
        def call(*words: object, **more: object) -> None:
            if next(calls, step) == step:
                raise KilledError
            real(*words, **more)

        return call

    for name in ("unlink", "rmdir", "rename"):
        patched.setattr(os, name, dying(getattr(os, name)))


def halves(stack: Stack) -> list[str]:
    """Return the folders of which only a part is there."""
    found = (stack.folder.path / name for name in FOLDERS)
    return [path.name for path in found if path.exists() and len(list(path.iterdir())) != 4]


def test_killed_anywhere_a_folder_is_whole_or_gone(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next ``reset`` ends it, and leaves nothing."""
    whole = tmp_path / "whole"
    shutil.copytree(stack.folder.path, whole)
    for step in range(1, 200):
        try:
            with monkeypatch.context() as patched:
                killed_at(step, patched)
                stack.reset()
        except KilledError:
            assert halves(stack) == []
            stack.reset()
            assert left(stack) == {"lock"}
            shutil.copytree(whole, stack.folder.path, dirs_exist_ok=True)
        else:
            break
    assert 20 < step < 199
    assert left(stack) == {"lock"}


def test_a_folder_that_is_removed_as_usual_is_left_in_halves(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control."""
    with monkeypatch.context() as patched:
        killed_at(3, patched)
        with pytest.raises(KilledError):
            shutil.rmtree(stack.folder.identity)
    assert halves(stack) == ["identity"]


def test_a_reset_that_waited_keeps_what_others_wrote(stack: Stack, tmp_path: Path) -> None:
    """Of two at once the second has nothing to do; contexts that came meanwhile stay."""
    waits = threading.Event()
    with stack.folder.locked(lambda: None):
        second = threading.Thread(target=stack.reset, args=(lambda _: waits.set(),))
        second.start()
        assert waits.wait(PATIENCE)
        Contexts.load(tmp_path / "contexts.toml").with_context("prod", {}).save()
        stack.folder.remove()
    second.join()
    assert set(Contexts.load(tmp_path / "contexts.toml").contexts) == {"prod"}
    assert left(stack) == {"lock"}


def test_a_context_that_came_while_it_asked_is_kept(
    spanctl: Spanctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``context delete`` forgets that one only."""
    spanctl("context", "create", "old", "project=p1")

    def asked(*_: object, **__: object) -> None:
        Contexts.load().with_context("new", {}).save()

    monkeypatch.setattr("spanctl_cli.commands.context.confirm", asked)
    assert spanctl("context", "delete", "old").exit_code == 0
    assert set(Contexts.load().contexts) == {"new"}


@pytest.mark.parametrize("then", ["down", "reset"])
def test_processes_whose_folder_was_removed_are_ended(stack: Stack, then: str) -> None:
    """Somebody removed it by hand, while the stack ran."""
    mark = parts.mark(stack.folder)
    code = "print('ready', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code],
        env={MARK: mark},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "ready\n"
        shutil.rmtree(stack.folder.path)
        result = getattr(stack, then)()
        assert result.strays == 1
        assert running.wait(PATIENCE) < 0
    assert left(stack) <= {"lock", "logs", "prefect-home"}


def test_nothing_is_made_for_what_is_not_there(tmp_path: Path) -> None:
    """No folder, no process: nothing is done."""
    stack = Stack(Folder(tmp_path / "none").path, environ={"SPANCTL_CONFIG_HOME": str(tmp_path)})
    assert stack.reset().strays == 0
    assert not stack.folder.path.exists()
