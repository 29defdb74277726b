from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("fleet", "0004_dependency_health")]

    operations = [
        migrations.RemoveIndex("instance", "fleet_instance_heard"),
        migrations.RemoveIndex("instance", "fleet_instance_oldest"),
    ]
