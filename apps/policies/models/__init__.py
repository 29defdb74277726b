"""What services must do when a dependency fails: settings per pattern and scope, overrides."""

from apps.policies.models.configs import (
    CONFIGS,
    BreakerConfig,
    BulkheadConfig,
    Config,
    DeadLetterConfig,
    FallbackConfig,
    HedgeConfig,
    RateLimitConfig,
    RecoveryConfig,
    RetryConfig,
    ThrottleConfig,
    TimeoutConfig,
)
from apps.policies.models.overrides import Override, ServicePolicy
from apps.policies.models.scopes import Scope

__all__ = [
    "CONFIGS",
    "BreakerConfig",
    "BulkheadConfig",
    "Config",
    "DeadLetterConfig",
    "FallbackConfig",
    "HedgeConfig",
    "Override",
    "RateLimitConfig",
    "RecoveryConfig",
    "RetryConfig",
    "Scope",
    "ServicePolicy",
    "ThrottleConfig",
    "TimeoutConfig",
]
