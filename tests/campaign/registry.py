"""The campaigns, in the order in which they are run."""

from typing import Final

from tests.campaign.cuts import Cuts
from tests.campaign.doubling import Doubling
from tests.campaign.false_death import FalseDeath
from tests.campaign.forgery import Forgery
from tests.campaign.identity import Identity
from tests.campaign.kills import Kills
from tests.campaign.matrix import Matrix
from tests.campaign.model import Campaign
from tests.campaign.races import Races
from tests.campaign.recovery import Recovery
from tests.campaign.rotation import Rotation
from tests.campaign.rotation_load import RotationFlows, RotationLoad
from tests.campaign.signals import Signals
from tests.campaign.storm import Storm
from tests.campaign.trails import Trails

ALL: Final[tuple[Campaign, ...]] = (
    Matrix(),
    Kills(),
    Signals(),
    Cuts(),
    Races(),
    Storm(),
    Doubling(),
    Trails(),
    Identity(),
    Forgery(),
    Rotation(),
    RotationLoad(),
    RotationFlows(),
    Recovery(),
    FalseDeath(),
)
