from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("fleet", "0003_silent_at")]

    operations = [
        migrations.AddField("dependency", "critical", models.BooleanField(default=True)),
        migrations.AddField(
            "dependency", "latency_target_seconds", models.FloatField(default=1.0)
        ),
        migrations.AddConstraint(
            "dependency",
            models.CheckConstraint(
                condition=models.Q(
                    latency_target_seconds__gte=0.001, latency_target_seconds__lte=100.0
                ),
                name="fleet_dependency_target",
            ),
        ),
    ]
