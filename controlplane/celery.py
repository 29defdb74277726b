"""The Celery application and its timetable."""

import os

from celery import Celery
from celery.signals import beat_init, setup_logging, worker_init
from django_structlog.celery.steps import DjangoStructLogInitStep
from kombu.transport.redis import Channel

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings")

app = Celery("holdfast")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.steps["worker"].add(DjangoStructLogInitStep)
app.autodiscover_tasks()
# Celery makes it current in this thread only; in others, tasks would be those of an empty one.
app.set_default()

app.conf.beat_schedule = {
    "pulse": {"task": "controlplane.tasks.pulse", "schedule": 5.0},
    "end leases of flags": {"task": "apps.degradation.tasks.end_due_flags", "schedule": 1.0},
    "end leases of overrides": {"task": "apps.policies.tasks.end_due_overrides", "schedule": 1.0},
    "roll up telemetry": {"task": "apps.telemetry.tasks.roll_up", "schedule": 60.0},
    "sum up telemetry": {"task": "apps.telemetry.tasks.sum_up", "schedule": 10.0},
    "take back dead letters": {
        "task": "apps.deadletters.tasks.return_expired",
        "schedule": 1.0,
    },
    "prune dead letters": {"task": "apps.deadletters.tasks.prune", "schedule": 3600.0},
    "fold totals": {"task": "apps.telemetry.tasks.fold_totals", "schedule": 30.0},
    "roll up checks": {"task": "apps.health.tasks.roll_up", "schedule": 300.0},
    "prune checks": {"task": "apps.health.tasks.prune", "schedule": 600.0},
    "prune alerts": {"task": "apps.alerts.tasks.prune", "schedule": 3600.0},
    "prune telemetry": {"task": "apps.telemetry.tasks.prune", "schedule": 600.0},
}
# A tick that was missed is not made up for: the next one does the same work.
for entry in app.conf.beat_schedule.values():
    entry["options"] = {"expires": 60.0}
# So none is put back when a worker closes the channel of a Redis that went away (settings.py).
Channel.do_restore = False


@setup_logging.connect
def _keep_our_logging(**kwargs: object) -> None:
    """Celery configures logging unless somebody listens here; Django already did."""


@worker_init.connect
@beat_init.connect
def _refuse_what_is_half_set(**kwargs: object) -> None:
    """Worker and beat end at once where the web server would not start: Celery runs Django's
    checks and looks at none. SystemExit, because it logs any other error and goes on.
    """
    from controlplane.checks import deployment  # settings are read with it

    if errors := deployment(None):
        raise SystemExit("\n".join(map(str, errors)))
