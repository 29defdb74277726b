from apps.core.routes import route
from apps.policies.api import configs, effective, overrides, presets
from apps.policies.models import CONFIGS

urlpatterns = [
    *(route(f"configs/{pattern}", configs.configs_view(pattern).as_view()) for pattern in CONFIGS),
    *(
        route(f"configs/{pattern}/plan", configs.plan_view(pattern).as_view())
        for pattern in CONFIGS
    ),
    *(
        route(f"configs/{pattern}/<int:config_id>", configs.config_view(pattern).as_view())
        for pattern in CONFIGS
    ),
    route("effective/<str:service>", effective.EffectiveView.as_view()),
    route("overrides", overrides.OverridesView.as_view()),
    route("overrides/<int:override_id>", overrides.OverrideView.as_view()),
    route("overrides/<int:override_id>/extend", overrides.OverrideExtendView.as_view()),
    route("overrides/<int:override_id>/end", overrides.OverrideEndView.as_view()),
    route("presets", presets.PresetsView.as_view()),
    route("presets/<str:name>/apply", presets.PresetApplyView.as_view()),
    route("presets/<str:name>/plan", presets.PresetPlanView.as_view()),
    route("revisions/<int:number>/rollback", effective.RollbackView.as_view()),
    route("revisions/<int:number>/rollback/plan", effective.RollbackPlanView.as_view()),
    route("schema/policy.json", effective.PolicySchemaView.as_view()),
]
