"""``python -m tests.campaign [NAME...]``: many cases, a judge, figures for the report.

A full run renews its section in ``docs/RELIABILITY.md``; the short form and samples only print.
Exit code 0 says that ours went right in every case and that the naive control, where there is one,
went wrong.
"""

import argparse
import os
import random
import shlex
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tests.campaign import report
from tests.campaign.journal import Journal
from tests.campaign.model import Campaign, Case, Form, Side, Tally, Verdict
from tests.campaign.running import run
from tests.faults.emulator import RAW_CLIENT

FOLDER = Path("build") / "campaigns"


def campaigns() -> dict[str, Campaign]:
    """Return all campaigns in the order in which they are run."""
    from tests.campaign.registry import ALL

    return {campaign.name: campaign for campaign in ALL}


def verdict_on(tallies: Sequence[Tally]) -> bool:
    """Tell whether ours went right everywhere, and the control went wrong."""
    return all((tally.bad == 0) is (tally.side is Side.OURS) for tally in tallies if tally.cases)


def conduct(  # noqa: PLR0913 - as the command line says it
    campaign: Campaign,
    form: Form,
    *,
    seed: int,
    folder: Path,
    resume: bool = False,
    sample: int | None = None,
    only: str = "",
) -> tuple[list[Tally], Journal]:
    """Run one campaign and return its sums, ours first."""
    cases = [case for case in campaign.cases(form) if only in case.name]
    if sample is not None and sample < len(cases):
        cases = random.Random(seed).sample(cases, sample)  # noqa: S311 - no secret
    journal = Journal(folder, campaign.name, seed, form, report.versions())
    journal.begin(resume=resume)
    run(campaign, cases, journal, seed=seed, tell=_tell)
    wanted = {(case.side, case.name) for case in cases}
    done = [one for one in journal.done if (one.side, one.name) in wanted]
    tallies = [Tally.of(side, done) for side in Side]
    return [tally for tally in tallies if tally.cases], journal


def _tell(case: Case, verdict: Verdict, finished: int, total: int) -> None:
    if verdict.bad and case.side is Side.OURS:
        _say(f"  {case.name}: {verdict.why or asdict(verdict)}")
    if finished % 100 == 0:
        _say(f"  {finished:,} of {total:,}")


def main() -> int:
    """Run the named campaigns, or all of them."""
    known = campaigns()
    parser = argparse.ArgumentParser(prog="python -m tests.campaign")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(known))
    parser.add_argument("--short", action="store_true", help="the form that the tests run")
    parser.add_argument("--seed", type=int, default=0, help="source of all chance (default: 0)")
    parser.add_argument("--resume", action="store_true", help="go on with the last run")
    parser.add_argument("--sample", type=int, metavar="N", help="run N cases only")
    parser.add_argument("--only", default="", metavar="TEXT", help="cases with this in their name")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(known):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known are: {', '.join(known)}")
    os.environ.update(RAW_CLIENT)
    form = Form.SHORT if arguments.short else Form.FULL
    right = True
    with tempfile.TemporaryDirectory(prefix="spanctl-campaign-") as home:
        os.environ.update({"HOME": home, "SPANCTL_CONFIG_HOME": home, "SPANCTL_STATE_HOME": home})
        for name in arguments.names or known:
            right &= _one(known[name], form, arguments)
    return 0 if right else 1


def _one(campaign: Campaign, form: Form, arguments: argparse.Namespace) -> bool:
    _say(f"{campaign.name} ...")
    tallies, journal = conduct(
        campaign,
        form,
        seed=arguments.seed,
        folder=FOLDER,
        resume=arguments.resume,
        sample=arguments.sample,
        only=arguments.only,
    )
    written = report.section(
        campaign.name,
        campaign.about,
        tallies,
        seed=arguments.seed,
        command=_command(campaign, form, arguments),
        spent=journal.spent,
        made_with=report.versions(),
    )
    _say(written)
    if form is Form.FULL and arguments.sample is None and not arguments.only:
        report.PLACE.write_text(report.renew(report.PLACE.read_text(), campaign.name, written))
    return verdict_on(tallies)


def _command(campaign: Campaign, form: Form, arguments: argparse.Namespace) -> str:
    """Return what runs the same again."""
    parts = ["python -m tests.campaign", campaign.name]
    parts += ["--short"] if form is Form.SHORT else []
    parts += [f"--seed {arguments.seed}"] if arguments.seed else []
    parts += [f"--sample {arguments.sample}"] if arguments.sample is not None else []
    parts += [f"--only {shlex.quote(arguments.only)}"] if arguments.only else []
    return " ".join(parts)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
