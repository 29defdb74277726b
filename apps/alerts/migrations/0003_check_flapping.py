from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('alerts', '0002_not_converged'),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name='rule',
            name='alerts_rule_kind',
        ),
        migrations.AlterField(
            model_name='alert',
            name='kind',
            field=models.CharField(choices=[('latency', 'latency: p95 above'), ('error_rate', 'share of errors above'), ('breaker_open', 'instances with an open breaker'), ('bulkhead_full', 'calls a full bulkhead rejected'), ('retries_exhausted', 'calls that failed after all retries'), ('check_down', 'a health check is down'), ('check_flapping', 'a health check flaps'), ('memory_high', 'memory in use above'), ('disk_low', 'free disk space below'), ('cpu_high', 'CPU in use above'), ('not_converged', 'something published and not applied since'), ('dead_letters_growing', 'dead letters arrived'), ('dead_letters_many', 'dead letters unresolved'), ('dead_letters_old', 'age of the oldest dead letter')], max_length=20),
        ),
        migrations.AlterField(
            model_name='rule',
            name='kind',
            field=models.CharField(choices=[('latency', 'latency: p95 above'), ('error_rate', 'share of errors above'), ('breaker_open', 'instances with an open breaker'), ('bulkhead_full', 'calls a full bulkhead rejected'), ('retries_exhausted', 'calls that failed after all retries'), ('check_down', 'a health check is down'), ('check_flapping', 'a health check flaps'), ('memory_high', 'memory in use above'), ('disk_low', 'free disk space below'), ('cpu_high', 'CPU in use above'), ('not_converged', 'something published and not applied since'), ('dead_letters_growing', 'dead letters arrived'), ('dead_letters_many', 'dead letters unresolved'), ('dead_letters_old', 'age of the oldest dead letter')], max_length=20),
        ),
        migrations.AddConstraint(
            model_name='rule',
            constraint=models.CheckConstraint(condition=models.Q(('kind__in', ['latency', 'error_rate', 'breaker_open', 'bulkhead_full', 'retries_exhausted', 'check_down', 'check_flapping', 'memory_high', 'disk_low', 'cpu_high', 'not_converged', 'dead_letters_growing', 'dead_letters_many', 'dead_letters_old'])), name='alerts_rule_kind'),
        ),
    ]
