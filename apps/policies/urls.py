from apps.core.routes import route
from apps.policies.api import configs
from apps.policies.models import CONFIGS

urlpatterns = [
    *(
        route(f"configs/{pattern}", configs.configs_view(pattern).as_view(), name=pattern)
        for pattern in CONFIGS
    ),
    *(
        route(f"configs/{pattern}/<int:config_id>", configs.config_view(pattern).as_view())
        for pattern in CONFIGS
    ),
]
