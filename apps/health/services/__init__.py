"""Every write of health: checks by people, results by the runner, history by the timetable."""

from apps.health.services.checks import (
    bring_check,
    create_check,
    delete_check,
    run_check,
    update_check,
)
from apps.health.services.heartbeats import Ping, ping
from apps.health.services.history import end_pulse, prune, roll_up, take_pulse
from apps.health.services.runs import Claimed, claim_due, record, record_all

__all__ = [
    "Claimed",
    "Ping",
    "bring_check",
    "claim_due",
    "create_check",
    "delete_check",
    "end_pulse",
    "ping",
    "prune",
    "record",
    "record_all",
    "roll_up",
    "run_check",
    "take_pulse",
    "update_check",
]
