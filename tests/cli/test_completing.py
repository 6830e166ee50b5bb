"""What a TAB is answered with, by the state of the machine."""

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from spanctl.orchestration.browsing import states_of
from spanctl.orchestration.model import StateType
from spanctl.settings import Contexts, resolve
from spanctl_cli import main
from spanctl_cli.catalogue import ERRORS
from spanctl_cli.completing.answer import FILES, answer
from spanctl_cli.completing.cache import Cache
from spanctl_cli.completing.typed import parsed
from tests.fixtures.cli import Ended, Spanctl, child_environment

BREAKS = " \t\n\"'><=;|&(:"
Tab = Callable[..., list[str]]


@pytest.fixture
def tab() -> Tab:
    """Return a function that presses TAB after a line of bash's, and gets the values."""

    def press(line: str, shell: str = "bash", **environment: str) -> list[str]:
        ended = answered(line, shell, **environment)
        assert (ended.exit_code, ended.stderr) == (0, "")
        return ended.stdout.splitlines()

    return press


def answered(line: str, shell: str = "bash", **environment: str) -> Ended:
    env = {
        "_SPANCTL_COMPLETE": shell,
        "_SPANCTL_LINE": line,
        "_SPANCTL_BREAKS": BREAKS,
        "_SPANCTL_WORDS": "\x1f".join(line.split(" ")[1:]),
        **environment,
    }
    done = subprocess.run(
        [sys.executable, "-m", "spanctl_cli.entry"],
        env=child_environment(env),
        capture_output=True,
        timeout=60,
        check=False,
    )
    return Ended(done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.fixture
def known() -> Cache:
    """A context without a server anywhere, and a cache that knows a flow run."""
    Contexts.load().with_context("prod", {}).using("prod").save()
    cache = Cache.of(resolve())
    cache.write({"flow_runs": [("bold-fox", "an id"), ("two\nlines", ""), ("bell\a", "")]})
    return cache


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("spanctl contex", ["context"]),
        ("spanctl -c prod contex", ["context"]),
        ("spanctl txn list --unr", ["--unresolved"]),
        ("spanctl txn list --owner ali", ["alive"]),
        ("spanctl txn list --owner=ali", ["alive"]),
        ("spanctl audit 3f2a9c1e --ro", ["--rows"]),
        ("spanctl audit --ro", ["--rows"]),
        ("spanctl run a/b --ide", ["--idempotency-key"]),
        ("spanctl run sql --detach --deta", []),
        ("spanctl run sql --execute x --exec", ["--execute"]),
        ("spanctl local logs ser", ["server"]),
        ("spanctl runs list --state sch", ["scheduled"]),
        ("spanctl runs list -s active -s end", ["ended"]),
        ("spanctl runs list --state=runn", ["running"]),
        ("spanctl runs wait bold-fox --for ca", ["cancelled", "cancelling", "cached"]),
        ("spanctl help exi", ["exit-codes"]),
        ("spanctl help key_", ["key_closed", "key_required", "key_reused", "key_withdrawn"]),
        ("spanctl help spanctl.txn.l", ["spanctl.txn.list/v1"]),
        ("spanctl help tx", ["txn"]),
        ("spanctl help txn re", ["resolve", "reopen"]),
        ("spanctl help -o json txn re", ["resolve", "reopen"]),
        ("spanctl help txn list ", []),
        ("spanctl help exit-codes ", []),
        ("spanctl help nonsense ", []),
        ("spanctl nonsense ", []),
        ("spanctl context nonsense ", []),
        ("spanctl txn list -- --unr", []),
        ("spanctl run 'unclosed \\", [FILES]),
    ],
)
def test_what_the_table_knows(line: str, values: list[str]) -> None:
    """Commands, options and choices are completed without configuration."""
    found = answer("bash", {"_SPANCTL_LINE": line, "_SPANCTL_BREAKS": BREAKS})
    assert [value for value in found if value != FILES or values] == values


def offered(line: str) -> list[str]:
    return list(answer("bash", {"_SPANCTL_LINE": line, "_SPANCTL_BREAKS": ""}))


def test_every_state_that_is_offered_is_known() -> None:
    """In both places, and the other way round: each of Prefect's types, and both groups."""
    words = offered("spanctl runs list --state ")
    assert words == offered("spanctl runs wait r --for ")
    assert {"active", "ended", *(kind.value.lower() for kind in StateType)} <= set(words)
    assert all(states_of([word]) != ([], []) for word in words)


def test_help_explains_whatever_is_offered_to_it(spanctl: Spanctl) -> None:
    """Topics, commands, codes and shapes; no other word is explained, and none is offered twice."""
    words = offered("spanctl help ")
    assert len(words) == len(set(words))
    topics = spanctl("help", "-o", "name").stdout.split()
    assert set(words) >= {*topics, *ERRORS, *main.COMMANDS} - {"COMMAND"}
    for word in words:
        assert spanctl("help", word).exit_code == 0, word


def test_a_value_that_no_line_can_hold_is_left_out(tab: Tab, known: Cache) -> None:
    """A name with a newline or a bell neither breaks the answer nor rings."""
    del known
    assert tab("spanctl runs show ") == ["bold-fox"]
    assert tab("spanctl runs show ", "zsh") == ["bold-fox:an id"]
    assert tab("spanctl runs show ", "fish") == ["bold-fox\tan id"]


def test_a_context_named_before_has_its_own_cache(tab: Tab, known: Cache) -> None:
    """Values of one context are never offered in another, nor after its settings changed."""
    del known
    Contexts.load().with_context("test", {}).save()
    assert tab("spanctl -c test runs show b") == []
    assert tab("spanctl --context=prod runs show b") == ["bold-fox"]
    assert tab("spanctl runs show b", PREFECT_API_URL="http://127.0.0.1:9/api") == []


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe", b"[]", b'{"values": []}', b'{"values": {"flow_runs": [1]}}', b"[" * 100_000],
)
def test_a_broken_cache_is_an_empty_one(tab: Tab, known: Cache, content: bytes) -> None:
    """Whatever is in the file: no value, no noise, exit 0."""
    known.path.write_bytes(content)
    assert tab("spanctl runs show ") == []


def test_nothing_works_and_nothing_is_said(
    tab: Tab, known: Cache, config_home: Path, tmp_path: Path
) -> None:
    """No configuration, a broken one, no context of that name, no place for a cache: silence."""
    del known
    blocked = tmp_path / "a-file"
    blocked.write_text("")
    assert tab("spanctl runs show ", SPANCTL_STATE_HOME=str(blocked)) == []
    no_place = {"HOME": str(blocked), "SPANCTL_STATE_HOME": "", "XDG_STATE_HOME": ""}
    assert tab("spanctl runs show ", **no_place) == []
    assert tab("spanctl -c nowhere runs show ") == []
    (config_home / "contexts.toml").write_text("]broken[")
    assert tab("spanctl runs show ") == []
    assert tab("spanctl context use ") == []
    assert tab("spanctl ", "tcsh") == []
    (config_home / "contexts.toml").unlink()
    assert tab("spanctl runs show ") == []


def test_a_stale_cache_is_answered_from_for_a_day(tab: Tab, known: Cache) -> None:
    """Nobody waits for a server; a process that was started just now isn't started again."""
    asked = known.path.with_suffix(".asked")
    asked.touch()
    started = asked.stat().st_mtime_ns
    past = known.path.stat().st_mtime - 3600
    os.utime(known.path, (past, past))
    assert tab("spanctl runs show b") == ["bold-fox"]
    os.utime(known.path, (past - 86_400, past - 86_400))
    assert tab("spanctl runs show b") == []
    assert asked.stat().st_mtime_ns == started


def test_the_cache_is_its_owners_alone(known: Cache) -> None:
    """Others can't list what somebody works on, whatever the umask was."""
    assert stat.S_IMODE(known.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(known.path.parent.stat().st_mode) == 0o700
    known.path.parent.chmod(0o755)
    known.write({})
    assert stat.S_IMODE(known.path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("line", "current", "inserted"),
    [
        ("spanctl x a:b", "a:b", "b c"),
        ("spanctl x 'a:b", "a:b", "a:b c"),
        ('spanctl x "a:b', "a:b", "a:b c"),
        ("spanctl x --to=a:b", "--to=a:b", "b c"),
        ("spanctl x a\\:b", "a:b", "a:b c"),
        ('spanctl x "a":b', "a:b", "b c"),
        ("spanctl x a'", "a", ":b c"),
    ],
)
def test_bash_replaces_what_follows_the_last_break(line: str, current: str, inserted: str) -> None:
    """Only the part that readline replaces is given back, as readline cuts it."""
    typed = parsed(line, BREAKS)
    assert (typed.words, typed.current) == (("x",), current)
    whole = current[: current.index("a")] + "a:b c"
    assert typed.written(whole) == (inserted if typed.quote else inserted.replace(" ", "\\ "))
