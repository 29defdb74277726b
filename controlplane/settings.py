"""All settings of the server, read from the environment.

Which mode runs is decided here and nowhere else: with neither `REDIS_URL` nor a PostgreSQL
`DATABASE_URL` the server is *embedded* (SQLite, one process); with both it is *distributed*.
Anything in between is refused by `controlplane.checks`.
"""

import contextlib
import os
import secrets
import tempfile
from pathlib import Path
from typing import Any

import environ
import structlog
from django.core.exceptions import ImproperlyConfigured
from django.utils.translation import gettext_lazy as _

from controlplane import database, logs

env = environ.FileAwareEnv()  # every NAME may also be given as NAME_FILE

BASE_DIR = Path(__file__).resolve().parent.parent
VAR_DIR = Path(env.str("HOLDFAST_VAR", str(BASE_DIR / "var")))
VERSION = "0.1.0"


def _make_var_dir() -> None:
    """For nobody else's eyes: the database holds sessions and hashes of passwords."""
    VAR_DIR.mkdir(mode=0o700, parents=True, exist_ok=True)


def _secret_key() -> str:
    """The configured key, else one made on first use and kept in `var/secret-key` (0600)."""
    configured: str = env.str("SECRET_KEY", "")
    if configured:
        return configured
    path = VAR_DIR / "secret-key"
    _make_var_dir()
    if not path.exists():
        _keep_new_key(path)
    key = path.read_text().strip()
    if not key:
        raise ImproperlyConfigured(f"{path} is empty: remove it, and a new key is made.")
    return key


def _keep_new_key(path: Path) -> None:
    """Whole or not at all, whatever happens meanwhile; of several processes the first one's."""
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix="secret-key-")  # mode 0600
    try:
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_urlsafe(50))
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        os.unlink(draft)


# --- Mode ---------------------------------------------------------------------------------------
WEB_PROCESS = env.bool("HOLDFAST_WEB", False)
REDIS_URL = env.str("REDIS_URL", "")
RABBITMQ_URL = env.str("RABBITMQ_URL", "")
DATABASE: dict[str, Any] = env.db_url("DATABASE_URL", f"sqlite:///{VAR_DIR / 'holdfast.sqlite3'}")
ON_SQLITE = DATABASE["ENGINE"].endswith("sqlite3")
EMBEDDED = ON_SQLITE and not REDIS_URL
DEMO = env.bool("HOLDFAST_DEMO", False)  # say on every page that the fleet is not a real one

SECRET_KEY = _secret_key()
SECRET_KEY_CONFIGURED = bool(env.str("SECRET_KEY", ""))
SECRET_KEY_FALLBACKS = env.list("SECRET_KEY_FALLBACKS", default=[])  # earlier ones, newest first
DEBUG = False
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["127.0.0.1", "localhost", "[::1]"])
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])
# Cookies travel over TLS only, unless the server is the embedded one on this machine.
SECURE_COOKIES = env.bool("SECURE_COOKIES", not EMBEDDED)
SESSION_ENGINE = "apps.accounts.sessions"
SESSION_COOKIE_SECURE = SECURE_COOKIES
CSRF_COOKIE_SECURE = SECURE_COOKIES
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_AGE = 12 * 3600  # seconds: one shift
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if SECURE_COOKIES else None
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"

# --- What runs ----------------------------------------------------------------------------------
INSTALLED_APPS = [
    "unfold",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_structlog",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "channels",
    "apps.core",
    "apps.audit",
    "apps.fleet",
    "apps.accounts",
    "apps.publication",
    "apps.telemetry",
    "apps.policies",
    "apps.degradation",
    "apps.deadletters",
    "apps.health",
    "apps.alerts",
    "apps.delivery",
    "apps.live",
    "apps.metrics",
    "apps.console",
    "controlplane",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "apps.core.headers.ContentSecurityPolicy",
    "apps.core.headers.AllowedHosts",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django_structlog.middlewares.RequestMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "apps.audit.middleware.RecordDenials",
    "apps.core.outages.DatabaseOutages",
    "apps.metrics.own.RequestMetrics",
]
ROOT_URLCONF = "controlplane.urls"
ASGI_APPLICATION = "controlplane.asgi.application"
APPEND_SLASH = False  # every API route answers with and without its slash; see core.routes
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

# --- Data ---------------------------------------------------------------------------------------
DB_POOL_SIZE = env.int("DB_POOL_SIZE", 10)
DB_MAX_OVERFLOW = env.int("DB_MAX_OVERFLOW", 10)
if ON_SQLITE:
    _make_var_dir()
    DATABASE["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",  # take the write lock at BEGIN, so that it is waited for
        "timeout": 20,  # seconds a writer waits for the lock
        "init_command": (
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA temp_store=MEMORY"
        ),
    }
else:
    chosen = DATABASE.get("OPTIONS", {})  # in the address, after its question mark
    options = database.READ_TO_THE_END + (database.STATEMENT_LIMIT if WEB_PROCESS else "")
    DATABASE["OPTIONS"] = {"options": options} | database.LIMITS | chosen
    DATABASE["CONN_HEALTH_CHECKS"] = True
    if not WEB_PROCESS:
        DATABASE["CONN_MAX_AGE"] = 60
    else:
        DATABASE["OPTIONS"]["pool"] = {
            "connection_class": database.ImpatientConnection,
            "min_size": 2,
            "max_size": DB_POOL_SIZE + DB_MAX_OVERFLOW,
            "max_waiting": 100,  # requests beyond that are refused at once
            "timeout": 5,  # seconds a request waits for a connection before it fails
            # Begin anew often: waits between attempts double.
            "reconnect_timeout": 2,
            "reconnect_failed": database.keep_trying,
        }
DATABASES = {"default": DATABASE}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
AUTH_USER_MODEL = "accounts.User"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {
        "NAME": "django.contrib.auth.password_validation.MinimumLengthValidator",
        "OPTIONS": {"min_length": 12},
    },
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "admin:index"

# --- Background work ----------------------------------------------------------------------------
CELERY_BROKER_URL = env.str("CELERY_BROKER_URL", RABBITMQ_URL or REDIS_URL or "memory://localhost")
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_REDIRECT_STDOUTS = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None  # for as long as it takes: nobody restarts a worker
if EMBEDDED:
    # Kombu's memory transport polls once a second unless told otherwise.
    CELERY_BROKER_TRANSPORT_OPTIONS = {"polling_interval": 0.05}
    CELERY_WORKER_ENABLE_REMOTE_CONTROL = False
elif CELERY_BROKER_URL.startswith("redis"):
    # What a worker has in hand is not kept in Redis: kombu 5.7 ends the worker when it acknowledges
    # a task, or puts one back, on the channel of a Redis that was away meanwhile. Every message is
    # a tick of the timetable, and the next one does the same work.
    CELERY_BROKER_TRANSPORT_OPTIONS = {"ack_emulation": False}

# --- API ----------------------------------------------------------------------------------------
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "apps.accounts.authentication.TokenAuthentication",
        "apps.accounts.authentication.SessionActorAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": [
        "apps.core.permissions.Refuse"
    ],  # a view that names no scope is closed
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["apps.core.parsers.StrictJSONParser"],
    "DEFAULT_SCHEMA_CLASS": "apps.core.schema.Schema",
    "EXCEPTION_HANDLER": "apps.audit.denials.handler",
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Holdfast",
    "DESCRIPTION": "Decide in one place how services behave when their dependencies fail.",
    "VERSION": VERSION,
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "SERVE_AUTHENTICATION": [],
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "apps.core.schema.with_problems",
        "apps.delivery.schema.with_stream",
    ],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
    "COMPONENT_SPLIT_REQUEST": True,
    "ENUM_NAME_OVERRIDES": {  # members of several shapes have these names
        "ActionModeEnum": "apps.alerts.models.Action.Mode",
        "AlertRuleKindEnum": "apps.alerts.models.Rule.Kind",
        "AlertStateEnum": "apps.alerts.models.Alert.State",
        "ChannelKindEnum": "apps.alerts.models.Channel.Kind",
        "EngagementOutcomeEnum": "apps.alerts.models.Engagement.Outcome",
        "OverrideModeEnum": "apps.policies.models.Override.Mode",
        "SeverityEnum": "apps.alerts.models.rule.Severity",
        "FindingSeverityEnum": ["warning", "refusal"],
        "LetterStatusEnum": "apps.deadletters.models.LetterStatus",
        "CaptureStatusEnum": ["created", "updated", "unchanged", "invalid"],
        "AuditOutcomeEnum": "apps.audit.models.Entry.Outcome",
        "VerdictEnum": ["accepted", "late", "unknown"],
        "RedriveOutcomeEnum": ["resolved", "refailed", "released", "extend"],
        "FlagKindEnum": "apps.degradation.models.Flag.Kind",
        "CheckKindEnum": "apps.health.models.Check.Kind",
        "CheckStatusEnum": "apps.health.models.Status",
        "CheckOutcomeEnum": "apps.health.api.OUTCOMES",
        "MarkerKindEnum": "apps.telemetry.models.Marker.Kind",
        "MomentKindEnum": "apps.core.moments.KINDS",
    },
    "COMPONENT_SPLIT_PATCH": False,  # what a PATCH requires is required
}
DATA_UPLOAD_MAX_MEMORY_SIZE = 8 * 1024 * 1024  # bytes: the largest body any route takes

# --- Delivery and telemetry ---------------------------------------------------------------------
POLL_SECONDS = env.float("POLL_SECONDS", 10.0)
REPORT_SECONDS = env.float("REPORT_SECONDS", 5.0)
JITTER = 0.2  # share of the interval, either way
STALE_AFTER_SECONDS = env.int("STALE_AFTER_SECONDS", 300)

# --- Dead letters -------------------------------------------------------------------------------
# Resolved and discarded ones; what is unresolved is kept until somebody decides.
DEAD_LETTERS_KEPT_DAYS = env.int("DEAD_LETTERS_KEPT_DAYS", 30)

# --- Health -------------------------------------------------------------------------------------
HEALTH_CHECK_SECONDS = env.int("HEALTH_CHECK_INTERVAL", 30_000) / 1000  # the variable is in ms
HEALTH_ALERT_THRESHOLD = env.float("HEALTH_ALERT_THRESHOLD", 0.95)  # share of successes
HEALTH_ALLOW_LINK_LOCAL = env.bool("HEALTH_ALLOW_LINK_LOCAL", False)  # see apps.health.targets

# --- People -------------------------------------------------------------------------------------
LANGUAGE_CODE = "en"
USE_I18N = True
LOCALE_PATHS = [BASE_DIR / "locale"]
USE_TZ = True
TIME_ZONE = "UTC"
FORMAT_MODULE_PATH = ["controlplane.formats"]
STATIC_URL = "/static/"
STATIC_ROOT = VAR_DIR / "static"
STATICFILES_DIRS = [BASE_DIR / "static"]
UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "Holdfast",
    "SITE_HEADER": "Holdfast",
    "SITE_SUBHEADER": _("reliability control plane"),
    "SITE_SYMBOL": "anchor",
    "SITE_ICON": f"{STATIC_URL}img/holdfast.svg",
    "SITE_FAVICONS": [
        {"rel": "icon", "type": "image/svg+xml", "href": f"{STATIC_URL}img/holdfast.svg"}
    ],
    "SITE_URL": None,  # the login page has no site to return to
    "STYLES": [f"{STATIC_URL}css/console.css"],
    "COLORS": {  # teal, in the theme's steps of lightness
        "primary": {
            "50": "oklch(98.4% .014 180.72)",
            "100": "oklch(95.3% .051 180.801)",
            "200": "oklch(91% .096 180.426)",
            "300": "oklch(85.5% .138 181.071)",
            "400": "oklch(77.7% .152 181.912)",
            "500": "oklch(70.4% .14 182.503)",
            "600": "oklch(55% .1 184.704)",
            "700": "oklch(48% .09 186.391)",
            "800": "oklch(41% .075 188.216)",
            "900": "oklch(36% .06 188.416)",
            "950": "oklch(27.7% .046 192.524)",
        }
    },
    "LOGIN": {"form": "apps.accounts.logins.LoginForm"},
    "SHOW_HISTORY": True,
    "SHOW_VIEW_ON_SITE": False,
    "ENVIRONMENT": "apps.console.navigation.badge",
    "DASHBOARD_CALLBACK": "apps.console.dashboard.context",
    "SIDEBAR": {"navigation": "apps.console.navigation.sections"},
}

# --- Logs ---------------------------------------------------------------------------------------
LOG_FORMAT = env.str("LOG_FORMAT", "console" if EMBEDDED else "json")
LOGGING = logs.config(LOG_FORMAT)
structlog.configure(**logs.STRUCTLOG)
DJANGO_STRUCTLOG_CELERY_ENABLED = True
DJANGO_STRUCTLOG_TRUST_UPSTREAM_REQUEST_ID = True  # controlplane.asgi lets only good ones through
SILENCED_SYSTEM_CHECKS: list[str] = []
