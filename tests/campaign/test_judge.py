"""The judge finds what is wrong: a campaign is worth no more than that."""

import pytest

from tests.campaign import ground, identity_programs
from tests.campaign.ground import Held, Report
from tests.campaign.identity_judge import Evidence
from tests.campaign.identity_judge import judge as judge_program
from tests.campaign.identity_source import May, Program
from tests.campaign.model import Case, Verdict

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


PROGRAM = Program({}, {"s": May.SUCCEED, "c": May.CONFLICT, "l": May.LOST})
MINE, OTHER = ("w", "txn-1", "1"), ("other", "txn-1", "1")


def told(site: str, **what: object) -> list[dict[str, object]]:
    """The journal of one call, which begins in any case."""
    begun = {"begun": site, "label": "w", "given": "1"}
    return [begun, {"site": site, "label": "w", "txn": "txn-1", "why": "", **what}]


def of_program(*rows: tuple[str, str, str], shown: str = "", **what: object) -> Verdict:
    """Judge a program that has told of a write, and of one call more."""
    journal = [*told("s", said="COMMITTED"), *told(str(what.pop("site", "s")), **what)]
    evidence = Evidence(journal, rows, frozenset({shown} if shown else ()))
    return judge_program(PROGRAM, evidence, finished=True, counted={})


@pytest.mark.parametrize(
    "what",
    [
        {"site": "s", "said": "COMMITTED"},
        {"site": "c", "said": "COMMITTED"},
        {"site": "l", "refused": "context_lost"},
        {"site": "s", "failed": "OwnError('raise')"},
    ],
)
def test_a_program_that_is_right_is_right(what: dict[str, object]) -> None:
    """What is there once may be told again; what is lost has to be refused."""
    assert of_program(MINE, **what).bad == 0


@pytest.mark.parametrize(
    ("rows", "what", "found"),
    [
        ([OTHER], {"site": "s", "said": "COMMITTED"}, "lost"),
        ([], {"site": "s", "said": "COMMITTED"}, "lost"),
        ([MINE, ("w", "txn-2", "1")], {"site": "s", "said": "COMMITTED"}, "duplicate"),
        ([("w", "txn-1", "[]")], {"site": "s", "said": "COMMITTED"}, "wrong"),
        ([MINE], {"site": "s", "said": "UNKNOWN"}, "wrong"),
        ([MINE], {"site": "s", "refused": "key_reused"}, "wrong"),
        ([MINE], {"site": "c", "refused": "key_reused"}, "wrong"),
        ([MINE], {"site": "c", "refused": "not_found"}, "wrong"),
        ([MINE], {"site": "l", "said": "COMMITTED"}, "wrong"),
        ([MINE], {"site": "s", "failed": "TypeError()"}, "wrong"),
        ([MINE, ("x", "txn-3", "1")], {"site": "s", "said": "COMMITTED"}, "wrong"),
        ([MINE], {"site": "s", "said": "COMMITTED", "shown": "txn-4"}, "wrong"),
    ],
)
def test_a_program_that_is_wrong_is_found(
    rows: list[tuple[str, str, str]], what: dict[str, object], found: str
) -> None:
    """Another's row, none, two, another argument; a refusal of what must succeed, or none."""
    assert getattr(of_program(*rows, **what), found) > 0


def test_a_conflict_is_refused_for_another_write_only() -> None:
    """The refusal names a transaction, and that one is another write's."""
    journal = told("c", refused="key_reused")
    evidence = Evidence(journal, [OTHER, ("w", "txn-2", "1")])
    verdict = judge_program(PROGRAM, evidence, finished=True, counted={})
    assert verdict.why == "other is there and was never called"


def test_a_seed_makes_the_same_program() -> None:
    """A wrong program can be made again, and each one is Python."""
    for number in range(50):
        case = Case(f"program/{number}")
        one, again = (identity_programs.make(case.dice(7), str(number)) for _ in range(2))
        assert one == again
        for name, source in one.files.items():
            compile(source, name, "exec")
