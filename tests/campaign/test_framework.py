"""The framework itself: what is finished stays finished, and figures come from runs only."""

import contextlib
import random
import signal
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.campaign import report
from tests.campaign.__main__ import conduct, verdict_on
from tests.campaign.journal import Journal, StaleJournalError
from tests.campaign.model import Case, Done, Form, Side, Tally, Verdict
from tests.campaign.zygote import Say, Zygote


class BrokenError(Exception):
    """The harness's own failure."""


class Counting:
    """A campaign whose cases only say what they were given; the one called ``fails`` fails."""

    name = "counting"
    about = "About."
    lanes = 2

    def __init__(self, fails: str = "") -> None:
        self.fails = fails
        self.judged: list[str] = []
        self.rolled: dict[str, float] = {}

    def cases(self, form: Form) -> Sequence[Case]:
        return [Case(f"case {number}") for number in range(4 if form is Form.SHORT else 40)]

    @contextlib.contextmanager
    def stage(self) -> Iterator["Counting"]:
        yield self

    @contextlib.contextmanager
    def lane(self) -> Iterator["Counting"]:
        yield self

    def judge(self, case: Case, dice: random.Random) -> Verdict:
        if case.name == self.fails:
            raise BrokenError
        self.judged.append(case.name)
        self.rolled[case.name] = dice.random()
        return Verdict(wrong=int(case.name == "case 3"), counted={"one": 1}, timed={"took": 2.0})


def test_a_run_that_died_goes_on_where_it_was(tmp_path: Path) -> None:
    """What is in the journal isn't run again, and the sum is that of one whole run."""
    broken, mended, whole = Counting("case 20"), Counting(), Counting()
    with pytest.raises(BrokenError):
        conduct(broken, Form.FULL, seed=7, folder=tmp_path)
    tallies, _ = conduct(mended, Form.FULL, seed=7, folder=tmp_path, resume=True)
    assert set(broken.judged).isdisjoint(mended.judged)
    assert len(broken.judged) + len(mended.judged) == 40
    assert tallies == conduct(whole, Form.FULL, seed=7, folder=tmp_path / "other")[0]
    assert broken.rolled | mended.rolled == whole.rolled


def test_without_resume_a_run_begins_anew(tmp_path: Path) -> None:
    """Old figures never slip into a new run."""
    conduct(Counting(), Form.SHORT, seed=0, folder=tmp_path)
    again = Counting()
    conduct(again, Form.SHORT, seed=0, folder=tmp_path)
    assert sorted(again.judged) == ["case 0", "case 1", "case 2", "case 3"]


def test_another_seed_is_another_chance(tmp_path: Path) -> None:
    """The seed decides what is rolled, and nothing else does."""
    rolled = []
    for seed in (1, 1, 2):
        campaign = Counting()
        conduct(campaign, Form.SHORT, seed=seed, folder=tmp_path)
        rolled.append(campaign.rolled)
    assert rolled[0] == rolled[1] != rolled[2]


def test_a_line_that_was_cut_short_is_run_again(tmp_path: Path) -> None:
    """The writer may die in the middle of a line."""
    journal = Journal(tmp_path, "counting", 0, Form.SHORT, {})
    journal.begin(resume=False)
    journal.add(Case("case 0"), Verdict())
    with journal.path.open("a") as stream:
        stream.write('{"case": "case 1", "si')
    later = Journal(tmp_path, "counting", 0, Form.SHORT, {})
    later.begin(resume=True)
    later.add(Case("case 2"), Verdict(wrong=1))
    last = Journal(tmp_path, "counting", 0, Form.SHORT, {})
    last.begin(resume=True)
    assert [one.name for one in last.done] == ["case 0", "case 2"]


def test_figures_of_other_versions_are_not_gone_on_with(tmp_path: Path) -> None:
    """One report is of one set of versions."""
    Journal(tmp_path, "counting", 0, Form.SHORT, {"spanctl": "1"}).begin(resume=False)
    with pytest.raises(StaleJournalError):
        Journal(tmp_path, "counting", 0, Form.SHORT, {"spanctl": "2"}).begin(resume=True)


def _tally(side: Side, *verdicts: Verdict) -> Tally:
    return Tally.of(side, [Done(name="", side=side, verdict=one) for one in verdicts])


def test_ours_must_be_right_and_the_control_wrong() -> None:
    """A control that goes right shows nothing, so the campaign has failed, too."""
    good, bad = Verdict(), Verdict(duplicate=1)
    assert verdict_on([_tally(Side.OURS, good), _tally(Side.NAIVE, good, bad)])
    assert not verdict_on([_tally(Side.OURS, good, bad), _tally(Side.NAIVE, bad)])
    assert not verdict_on([_tally(Side.OURS, good), _tally(Side.NAIVE, good)])


def test_a_section_is_renewed_in_its_place() -> None:
    """The rest of the document stays as it is."""
    made = report.section(
        "counting",
        "About.",
        [_tally(Side.OURS, Verdict(counted={"kills": 1_200}, timed={"took": 0.25}))],
        seed=3,
        command="python -m tests.campaign counting --seed 3",
        spent=75.0,
        made_with={"python": "3.11"},
        on=datetime(2026, 1, 2, tzinfo=UTC),
    )
    assert "| spanctl | 1 | 0 | 0 | 0 | 0 |" in made
    assert "1,200 kills; took: median 250 ms, longest 250 ms." in made
    assert "2026-01-02, 75.0 s, seed 3: `python -m tests.campaign counting --seed 3`" in made
    first = report.renew("# Title\n\nWords.\n", "counting", made)
    assert first == f"# Title\n\nWords.\n\n{made}\n"
    framed = first + "\nMore \\1 words.\n"
    assert report.renew(framed, "counting", made.replace("About.", r"\g<0>")) == framed.replace(
        "About.", r"\g<0>"
    )


# -- the zygote


def talk(say: Say, *, words: int) -> None:
    for word in range(words):
        say(word)


def linger(say: Say) -> None:
    say("here")
    signal.pause()


def fail(say: Say) -> None:
    say("failing")
    raise BrokenError


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    with Zygote(["tests.campaign.test_framework"]) as made:
        yield made


def test_a_child_says_how_far_it_came(zygote: Zygote) -> None:
    """All that it said is heard, though it ends at once."""
    ended = zygote.run("tests.campaign.test_framework:talk", words=5_000)
    assert ended.said == tuple(range(5_000))
    assert ended.status == 0
    assert not ended.killed


def test_a_child_is_killed_at_its_word(zygote: Zygote) -> None:
    """SIGKILL, not an exit, after what it said."""
    ended = zygote.run("tests.campaign.test_framework:linger", kill_on="here", after=0.01)
    assert ended.killed
    assert ended.said == ("here",)


def test_a_child_is_interrupted_at_its_word(zygote: Zygote) -> None:
    """Another signal than SIGKILL leaves it time to end by itself."""
    ended = zygote.run(
        "tests.campaign.test_framework:linger", kill_on="here", by=signal.SIGINT, after=0.01
    )
    assert (ended.status, ended.said, ended.hung) == (130, ("here",), False)


def test_a_child_that_hangs_is_ended_and_told(zygote: Zygote) -> None:
    """A hang is no kill."""
    ended = zygote.run("tests.campaign.test_framework:linger", patience=0.2)
    assert ended.hung
    assert not ended.killed


def test_a_child_that_fails_is_no_success(zygote: Zygote) -> None:
    """Its traceback goes to standard error; its exit code isn't 0."""
    assert zygote.run("tests.campaign.test_framework:fail").status == 70
