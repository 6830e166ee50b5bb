"""What of Prefect's own lies in a folder: told, not read, and taken over by hand only."""

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spanctl.settings import Contexts
from tests.fixtures.cli import Ended, Spanctl
from tests.fixtures.scripted_prefect import ScriptedPrefect, a_run

URL = "https://prefect.example/api"
WORD = "pnu_a-key-that-nobody-sees"
HEADERS = {"CF-Access-Client-Secret": "a-header-that-nobody-sees", "X-Team": "ops"}


def dotenv(folder: Path, **values: Any) -> Path:
    path = folder / ".env"
    names = {"url": "PREFECT_API_URL", "key": "prefect_api_key", "auth": "PREFECT_API_AUTH_STRING"}
    lines = ["# a comment", "export OTHER='not ours'"]
    lines += [f"{names[name]}={value}" for name, value in values.items() if name in names]
    if "headers" in values:
        lines.append(f"PREFECT_CLIENT_CUSTOM_HEADERS='{json.dumps(values['headers'])}'")
    path.write_text("\n".join([*lines, "PREFECT_LOGGING_LEVEL=DEBUG", ""]))
    return path


def toml(folder: Path, name: str = "prefect.toml", before: str = "", **values: Any) -> Path:
    path = folder / name
    names = {"url": "url", "key": "key", "auth": "auth_string"}
    lines = [f"[{before}api]"]
    lines += [f'{names[one]} = "{value}"' for one, value in values.items() if one in names]
    if "headers" in values:
        lines.append(f"[{before}client.custom_headers]")
        lines += [f'"{one}" = "{value}"' for one, value in values["headers"].items()]
    path.write_text("\n".join([*lines, f"[{before}logging]", 'level = "DEBUG"', ""]))
    return path


def pyproject(folder: Path, **values: Any) -> Path:
    return toml(folder, "pyproject.toml", "tool.prefect.", **values)


WRITERS = (dotenv, toml, pyproject)
Writer = Callable[..., Path]


@pytest.fixture
def prod(spanctl: Spanctl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Spanctl:
    """A context, in a folder of one's own."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    assert spanctl("context", "create", "prod", "project=p-12345").exit_code == 0
    return spanctl


def stored(config_home: Path, name: str = "prod") -> dict[str, str]:
    return dict(Contexts.load(config_home / "contexts.toml").get(name))


@pytest.mark.parametrize("write", WRITERS)
def test_an_api_is_taken_over_with_what_opens_it(
    prod: Spanctl, config_home: Path, write: Writer
) -> None:
    """Shown are names; the secret parts go to files of one's own, and nothing else is taken."""
    file = write(Path.cwd(), url=URL, key=WORD, headers=HEADERS)
    done = prod("context", "import-prefect", file.name, "--yes")
    assert done.exit_code == 0, done.stderr
    found = stored(config_home)
    assert (found.pop("project"), found.pop("prefect_api_url")) == ("p-12345", URL)
    assert set(found) == {"prefect_api_key", "prefect_headers"}
    kept = {name: Path(value.removeprefix("file:")) for name, value in found.items()}
    assert kept["prefect_api_key"].read_text() == WORD
    assert json.loads(kept["prefect_headers"].read_text()) == HEADERS
    assert {stat.S_IMODE(path.stat().st_mode) for path in kept.values()} == {0o600}
    for shown in (URL, found["prefect_api_key"], "CF-Access-Client-Secret, X-Team", "not taken: "):
        assert shown in done.stderr
    assert "nobody-sees" not in done.output
    assert "OTHER" not in done.output


def test_what_opened_another_api_goes(prod: Spanctl, config_home: Path) -> None:
    """It belongs to the address that it came with."""
    prod("context", "set", "prefect_api_key=secret:projects/p-12345/secrets/s")
    toml(Path.cwd(), url=URL, auth="me:mine")
    done = prod("context", "import-prefect", "prefect.toml", "--yes")
    assert "no longer set, for they open another API: prefect_api_key" in done.stderr
    assert set(stored(config_home)) == {"project", "prefect_api_url", "prefect_auth_string"}


@pytest.mark.parametrize(
    "text", ["file:/nowhere/a-file-of-ours", "secret:projects/p-12345/secrets/s@7"]
)
def test_a_foreign_file_refers_to_nothing_of_ours(
    prod: Spanctl, config_home: Path, text: str
) -> None:
    """What looks like a reference is a key like any other: nothing of ours is sent for it."""
    toml(Path.cwd(), url=URL, key=text)
    assert prod("context", "import-prefect", "prefect.toml", "--yes").exit_code == 0
    kept = Path(stored(config_home)["prefect_api_key"].removeprefix("file:"))
    assert kept.parent == config_home
    assert kept.read_text() == text


def test_what_is_replaced_is_not_kept(prod: Spanctl, config_home: Path) -> None:
    """The key of the API before is on no disk any more."""
    toml(Path.cwd(), url=URL, key=WORD)
    assert prod("context", "import-prefect", "prefect.toml", "--yes").exit_code == 0
    toml(Path.cwd(), url=URL)
    assert prod("context", "import-prefect", "prefect.toml", "--yes").exit_code == 0
    assert [path.name for path in config_home.iterdir()] == ["contexts.toml"]


def test_a_deleted_context_leaves_nothing(prod: Spanctl, config_home: Path) -> None:
    """What was kept for it goes with it."""
    toml(Path.cwd(), url=URL, key=WORD, headers=HEADERS)
    assert prod("context", "import-prefect", "prefect.toml", "--yes").exit_code == 0
    assert prod("context", "delete", "prod", "--yes").exit_code == 0
    assert [path.name for path in config_home.iterdir()] == ["contexts.toml"]


def test_nothing_is_done_without_a_yes(prod: Spanctl, config_home: Path) -> None:
    """A script has to say so; what would come is shown all the same."""
    toml(Path.cwd(), url=URL, key=WORD)
    before = stored(config_home)
    done = prod("context", "import-prefect", "prefect.toml")
    assert done.exit_code == 2
    assert URL in done.stderr
    assert stored(config_home) == before
    assert [path.name for path in config_home.iterdir()] == ["contexts.toml"]


def damaged(path: Path) -> None:
    path.write_text("[api\n")


def binary(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\x00")


def folder(path: Path) -> None:
    path.mkdir()


def huge(path: Path) -> None:
    path.write_bytes(b"#" * (2 << 20))


def no_api(path: Path) -> None:
    path.write_text("[logging]\nlevel = 'DEBUG'\n")


def odd_url(path: Path) -> None:
    path.write_text("[api]\nurl = 5\n")


def no_url(path: Path) -> None:
    path.write_text("[api]\nurl = 'not a url'\n")


def control_url(path: Path) -> None:
    path.write_text('[api]\nurl = "http://x/api\\u001b[2J"\n')


def two_lines(path: Path) -> None:
    path.write_text(f'[api]\nurl = "{URL}"\nkey = "nobody-sees\\nb"\n')


def odd_headers(path: Path) -> None:
    path.write_text(f"[api]\nurl = '{URL}'\n[client]\ncustom_headers = ['nobody-sees']\n")


def control_headers(path: Path) -> None:
    path.write_text(f'[api]\nurl = "{URL}"\n[client.custom_headers]\nx = "a\\r\\nnobody-sees"\n')


@pytest.mark.parametrize(
    ("write", "told", "code"),
    [
        (lambda _path: None, "there is no file", 5),
        (damaged, "is no TOML", 2),
        (binary, "no text in UTF-8", 2),
        (folder, "there is no file", 5),
        (huge, "larger than 1 MiB", 2),
        (no_api, "names no Prefect API", 2),
        (odd_url, "is no URL", 2),
        (no_url, "is no URL", 2),
        (control_url, "is no URL", 2),
        (two_lines, "no line of text", 2),
        (odd_headers, "no JSON object of text", 2),
        (control_headers, "no JSON object of text", 2),
    ],
)
def test_a_file_that_can_t_be_taken_over(
    prod: Spanctl, write: Callable[[Path], None], told: str, code: int
) -> None:
    """It ends in one line that says why."""
    write(Path.cwd() / "prefect.toml")
    done = prod("context", "import-prefect", "prefect.toml", "--yes")
    assert (done.exit_code, told in done.stderr) == (code, True), done.stderr
    assert "nobody-sees" not in done.output


def test_the_stack_s_context_is_left_alone(prod: Spanctl) -> None:
    """The next ``local up`` would write it anew."""
    prod("context", "create", "local")
    toml(Path.cwd(), url=URL)
    done = prod("-c", "local", "context", "import-prefect", "prefect.toml", "--yes")
    assert done.exit_code == 2
    assert "context create NAME" in done.stderr


def test_headers_are_sent(
    prod: Spanctl, scripted_prefect: ScriptedPrefect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By spanctl's own client, from a context and from Prefect's variable alike."""
    scripted_prefect.add_runs(a_run())
    monkeypatch.delenv("PREFECT_API_URL")
    toml(Path.cwd(), url=scripted_prefect.url, headers=HEADERS)
    assert prod("context", "import-prefect", "prefect.toml", "--yes").exit_code == 0
    assert prod("runs", "list").exit_code == 0
    told = scripted_prefect.requests[-1][2]
    assert {name: told[name] for name in HEADERS} == HEADERS
    monkeypatch.setenv("PREFECT_API_URL", scripted_prefect.url)
    monkeypatch.setenv("PREFECT_CLIENT_CUSTOM_HEADERS", '{"X-Team": "others"}')
    monkeypatch.setenv("SPANCTL_CONFIG_HOME", str(Path.cwd()))
    assert prod("runs", "list").exit_code == 0
    assert scripted_prefect.requests[-1][2]["X-Team"] == "others"


@pytest.mark.parametrize("write", WRITERS)
def test_without_an_api_the_file_is_named(prod: Spanctl, write: Writer) -> None:
    """The next command to type takes it over."""
    file = write(Path.cwd(), url=URL)
    done = prod("runs", "list")
    assert done.exit_code == 2
    assert f"run: spanctl context import-prefect {file.name}" in done.stderr


@pytest.mark.parametrize("write", WRITERS)
def test_doctor_says_what_is_not_read(prod: Spanctl, write: Writer) -> None:
    """It warns where another API than the context's is named; the mend ends that."""

    def look() -> dict[str, Any]:
        items = json.loads(prod("doctor", "-o", "json").stdout)["items"]
        found: dict[str, Any] = next(one for one in items if one["part"] == "folder")
        return found

    assert look()["status"] == "ok"
    file = write(Path.cwd(), url=URL)
    found = look()
    assert (found["status"], file.name in found["evidence"]) == ("warn", True)
    assert found["mend"] == f"spanctl context import-prefect {file.name}"
    assert prod(*found["mend"].split()[1:], "--yes").exit_code == 0
    found = look()
    assert (found["status"], "not read: " in found["evidence"]) == ("ok", True)


def test_other_files_are_not_told_of(prod: Spanctl) -> None:
    """A project's own, which have nothing of Prefect's, are nobody's business."""
    Path("pyproject.toml").write_text("[project]\nname = 'x'\n[tool.ruff]\n")
    Path(".env").write_text("DATABASE_URL=postgres://\n")
    done = prod("runs", "list")
    assert "import-prefect" not in done.stderr


@pytest.mark.usefixtures("prefect")
@pytest.mark.parametrize("write", WRITERS[:1])
@pytest.mark.prefect
def test_a_run_in_this_process_says_what_it_does_not_read(
    child: Callable[..., Ended], write: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once, with the command that takes it over; --quiet keeps it off."""
    monkeypatch.chdir(tmp_path)
    file = write(tmp_path, url=URL)
    Path("empty.py").write_text("from prefect import flow\n\n\n@flow\ndef empty(): ...\n")
    line = f"not read, though Prefect would: {file.name}; to take its API over run: "
    done = child("run", "empty.py:empty")
    assert done.stderr.count(line) == 1, done.stderr
    assert line not in child("--quiet", "run", "empty.py:empty").stderr
