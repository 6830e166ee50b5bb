"""The judge finds what is wrong: a campaign is worth no more than that."""

import pytest

from tests.campaign import ground
from tests.campaign.ground import Held, Report
from tests.campaign.model import Verdict

ONCE, NEVER, TWICE = Held(1, 1, 1), Held(0, 0, 0), Held(2, 2, 1)


@pytest.mark.parametrize(
    ("said", "held"),
    [
        (Report.COMMITTED, ONCE),
        (Report.NOT_COMMITTED, NEVER),
        (Report.NOTHING, ONCE),
        (Report.NOTHING, NEVER),
    ],
)
def test_what_is_right_is_right(said: str, held: Held) -> None:
    """Who died before it could report may have committed or not."""
    assert ground.judge(said, held) == Verdict()


@pytest.mark.parametrize(
    ("said", "held", "what"),
    [
        (Report.COMMITTED, NEVER, "lost"),
        (Report.COMMITTED, TWICE, "duplicate"),
        (Report.NOTHING, TWICE, "duplicate"),
        (Report.NOT_COMMITTED, ONCE, "wrong"),
        (Report.NOT_COMMITTED, TWICE, "wrong"),
        (Report.UNKNOWN, ONCE, "unresolved"),
        (Report.UNKNOWN, NEVER, "unresolved"),
        (Report.HUNG, NEVER, "unresolved"),
        (Report.COMMITTED, Held(1, 1, 0), "wrong"),
        (Report.COMMITTED, Held(0, 1, 1), "wrong"),
        (Report.COMMITTED, Held(1, 0, 1), "wrong"),
        (Report.NOT_COMMITTED, Held(0, 0, 1), "wrong"),
    ],
)
def test_what_is_wrong_is_called_by_its_name(said: str, held: Held, what: str) -> None:
    """A receipt without its rows, rows without their receipt, half a write, one too many."""
    verdict = ground.judge(said, held)
    assert getattr(verdict, what) > 0
    assert said in verdict.why


def test_naive_code_needs_no_receipt() -> None:
    """The control is judged by its rows alone."""
    assert not ground.judge(Report.COMMITTED, Held(1, 1, 0), ours=False).bad
    assert ground.judge(Report.COMMITTED, Held(2, 2, 0), ours=False).duplicate == 1
