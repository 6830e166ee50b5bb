"""The short form of every campaign, and that a control which can go wrong does."""

from pathlib import Path

import pytest

from tests.campaign.__main__ import conduct
from tests.campaign.model import Campaign, Form, Side
from tests.campaign.registry import ALL

pytestmark = pytest.mark.emulator


SHORT = [campaign for campaign in ALL if campaign.cases(Form.SHORT)]


@pytest.mark.parametrize("campaign", SHORT, ids=lambda campaign: campaign.name)
def test_nothing_goes_wrong_but_the_control(campaign: Campaign, tmp_path: Path) -> None:
    """Ours: nothing wrong, duplicate, lost or unresolved. The naive control: something is."""
    tallies, journal = conduct(campaign, Form.SHORT, seed=0, folder=tmp_path)
    cases = list(campaign.cases(Form.SHORT))
    sides = {case.side for case in cases}
    assert sum(tally.cases for tally in tallies) == len(cases) == len(journal.done)
    told = [(one.name, one.verdict) for one in journal.done if one.verdict.bad]
    for tally in tallies:
        assert (tally.bad == 0) is (tally.side is Side.OURS), told
    assert {tally.side for tally in tallies} == sides
