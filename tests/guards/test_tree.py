"""What is committed speaks of the product alone, and is what its generators make."""

import re
import subprocess
from pathlib import Path

import pytest

from spanctl_cli import completions, reference
from spanctl_cli.completing.answer import TABLE

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "requirements.lock"

_MACHINE = re.compile(
    r"(?<![\w/])/(?:work/(?:main|shared|\.)|root/|Users/|opt/pypi|opt/wheels)"
    r"|/home/(?!USER|runner)[a-z]"
    r"|/tmp/(?:lab|bash_jobs)"
)


def tracked() -> list[Path]:
    done = subprocess.run(
        ["git", "ls-files", "-z"],  # noqa: S607 - git is found as the developer finds it
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        pytest.skip("not a Git checkout")
    return [ROOT / name for name in done.stdout.decode().split("\0") if name]


def test_no_tracked_file_names_a_path_of_some_machine() -> None:
    """Nothing refers to where it happened to be written."""
    this = Path(__file__)
    for path in tracked():
        if path == this or not path.is_file():
            continue
        found = _MACHINE.search(path.read_text(encoding="utf-8", errors="replace"))
        assert found is None, f"{path.relative_to(ROOT)}: {found}"


@pytest.mark.parametrize("shell", completions.FILES)
def test_completions_are_what_the_generator_writes(shell: str) -> None:
    """A drift between what is committed and the generator is mended by ``make completions``."""
    committed = (ROOT / "completions" / completions.FILES[shell]).read_text(encoding="utf-8")
    assert committed == completions.script(shell)


def test_the_table_of_commands_is_that_of_the_commands() -> None:
    """A command or an option that is added is completed after ``make completions``."""
    committed = TABLE.read_text(encoding="utf-8")
    assert committed == completions.commands(), "run: make completions"


def test_the_reference_is_that_of_the_commands() -> None:
    """A help text that was changed is in docs/reference after ``make docs``."""
    folder = ROOT / "docs" / "reference"
    committed = {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}
    assert committed == reference.pages(), "run: make docs"


def test_the_lock_pins_everything_by_hash_and_names_no_host() -> None:
    """Any mirror can serve the lock, and none can change what is installed."""
    text = LOCK.read_text(encoding="utf-8")
    assert "://" not in text
    assert not re.search(r"^-", text, re.MULTILINE)
    pins = re.split(r"\n(?=\S)", text.strip())
    for pin in pins:
        assert re.match(r"[a-z0-9._-]+==\S+", pin), pin
        assert "--hash=sha256:" in pin, pin


def test_the_lock_holds_what_the_project_asks_for() -> None:
    """Each direct dependency, of run time, development and build, is pinned."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    asked = [
        *project["project"]["dependencies"],
        *(item for group in project["dependency-groups"].values() for item in group),
    ]
    pinned = set(re.findall(r"^([a-z0-9._-]+)==", LOCK.read_text(encoding="utf-8"), re.MULTILINE))
    for requirement in asked:
        name = re.split(r"[<>=!~ \[;]", requirement)[0].lower()
        assert name in pinned, f"{name}: run make lock"
