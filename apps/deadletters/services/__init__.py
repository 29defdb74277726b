"""Every change of dead letters and redrives."""

from apps.deadletters.services.capture import Captured, capture
from apps.deadletters.services.letters import acknowledge_letter, discard_group, discard_letter
from apps.deadletters.services.outcomes import Outcome, settle
from apps.deadletters.services.redrives import (
    end_redrive,
    pause_redrive,
    redrive_group,
    redrive_letters,
    resume_redrive,
)
from apps.deadletters.services.retention import prune
from apps.deadletters.services.work import Work, claim, return_expired

__all__ = [
    "Captured",
    "Outcome",
    "Work",
    "acknowledge_letter",
    "capture",
    "claim",
    "discard_group",
    "discard_letter",
    "end_redrive",
    "pause_redrive",
    "prune",
    "redrive_group",
    "redrive_letters",
    "resume_redrive",
    "return_expired",
    "settle",
]
