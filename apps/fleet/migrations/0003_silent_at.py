from datetime import timedelta

from django.db import migrations, models
from django.utils import timezone


def fill(apps, schema_editor):
    """Those that are known were told the usual pace, a report every 5 s."""
    Instance = apps.get_model("fleet", "Instance")
    Instance.objects.update(silent_at=models.F("heard_at") + timedelta(seconds=15))


class Migration(migrations.Migration):
    dependencies = [("fleet", "0002_check_kinds")]

    operations = [
        migrations.AddField(
            "instance",
            "silent_at",
            models.DateTimeField(default=timezone.now),
            preserve_default=False,
        ),
        migrations.RunPython(fill, migrations.RunPython.noop),
    ]
