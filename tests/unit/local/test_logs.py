"""Logs stay small and readable while parts write to them."""

from pathlib import Path

import pytest

from spanctl.local import logs

NOISE = "external/com_googlesource_code_re2/re2/re2.cc:842: DFA out of memory: pattern length 27\n"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "emulator.log"


def test_noise_is_taken_out_and_the_rest_stays(log: Path) -> None:
    """A part goes on writing where it is, behind what stayed."""
    with log.open("a", encoding="utf-8") as part:
        part.write("serving\n" + 2000 * NOISE + "trouble\n")
        part.flush()
        logs.tidy([log])
        part.write("more\n")
    assert log.read_text() == "serving\ntrouble\nmore\n"
    assert not logs.aside(log).exists()


def test_a_large_log_is_put_aside_under_its_writer(log: Path) -> None:
    """One earlier piece is kept, for the owner alone, so the two have a bounded size."""
    line = 99 * "x" + "\n"
    with log.open("a", encoding="utf-8") as part:
        for number in range(3):
            part.write((logs.LARGEST // 100 + 1) * line + f"{number}\n")
            part.flush()
            logs.tidy([log])
        part.write("more\n")
    assert log.read_text() == "more\n"
    earlier = logs.aside(log)
    assert earlier.stat().st_mode & 0o777 == 0o600
    assert earlier.stat().st_size < logs.LARGEST + 200
    assert earlier.read_text().endswith("\n2\n")


def test_a_small_log_and_none_are_left_alone(log: Path) -> None:
    """Nothing is read that is not large."""
    logs.tidy([log])
    log.write_text(NOISE)
    logs.tidy([log])
    assert log.read_text() == NOISE
