"""Django's settings: one flat file, every outside value read through `config.environment`."""

from __future__ import annotations

from pathlib import Path

import django_stubs_ext
from csp.constants import NONE, SELF
from psycopg.conninfo import conninfo_to_dict

from config import environment as env

django_stubs_ext.monkeypatch()  # generic admin and view classes can be subscripted

BASE_DIR = Path(__file__).resolve().parent.parent
DEBUG = env.DEBUG.read()
SECRET_KEY = env.SECRET_KEY.read() or ("debug-only" * 6 if DEBUG else "")
ALLOWED_HOSTS = list(env.ALLOWED_HOSTS.read())
BASE_URL = env.BASE_URL.read().rstrip("/")
CSRF_TRUSTED_ORIGINS = [BASE_URL]

INSTALLED_APPS = [
    "config",
    "billing",
    "metering",
    "accounts",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "axes",
    "csp",
    "rest_framework",
    "drf_spectacular",
]
MIDDLEWARE = [
    "config.requests.RequestIdMiddleware",
    "config.metrics.MetricsMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "axes.middleware.AxesMiddleware",
]
ROOT_URLCONF = "config.urls"
ASGI_APPLICATION = "config.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [],  # config stands first among the apps: its templates go before the admin's own
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]


def _database(url: str) -> dict[str, object]:
    """Django's form of a libpq URL (or nothing: commands that need no database still run)."""
    parts = conninfo_to_dict(url) if url else {}
    known = {"dbname": "NAME", "user": "USER", "password": "PASSWORD", "host": "HOST"}
    known |= {"port": "PORT"}
    database: dict[str, object] = {"ENGINE": "django.db.backends.postgresql"}
    database |= {known[key]: str(value) for key, value in parts.items() if key in known}
    options = {key: value for key, value in parts.items() if key not in known}
    return database | {"OPTIONS": options, "CONN_HEALTH_CHECKS": True, "CONN_MAX_AGE": 0}


DATABASE_URL = env.DATABASE_URL.read()
DATABASES = {"default": _database(DATABASE_URL)}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTH_USER_MODEL = "accounts.Member"
AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",
    "django.contrib.auth.backends.ModelBackend",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
    )
]
LOGIN_URL = "/sign-in"
LOGIN_REDIRECT_URL = "/portal"
LOGOUT_REDIRECT_URL = "/sign-in"
AXES_FAILURE_LIMIT = 8
AXES_COOLOFF_TIME = 0.25  # hours
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_RESET_ON_SUCCESS = True
AXES_VERBOSE = False
AXES_USERNAME_FORM_FIELD = "username"  # what the form sends, whatever the model calls it
AXES_LOCKOUT_CALLABLE = "accounts.pages.sign_in.locked_out"

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = "static/"
# Served from where they lie (whitenoise reads them at start): no collecting step to forget.
STATIC_ROOT = None
WHITENOISE_USE_FINDERS = True
STATICFILES_DIRS = [BASE_DIR / "config" / "static"]

HTTPS = env.HTTPS.read()
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SESSION_COOKIE_HTTPONLY = True
SECURE_SSL_REDIRECT = False
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if HTTPS else None
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "object-src": [NONE],
        "base-uri": [SELF],
        "frame-ancestors": [NONE],
    },
}
# A form that leads on to Stripe's pages is answered by a redirect there; `form-action` would have
# browsers refuse it, so it is left open on purpose.
# The largest body of any view; each has a smaller bound of its own, and pages take forms only.
DATA_UPLOAD_MAX_MEMORY_SIZE = 16 * 1024 * 1024
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["accounts.api.authentication.BearerAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["accounts.api.permissions.HasScope"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_SCHEMA_CLASS": "accounts.api.describing.Description",
    "EXCEPTION_HANDLER": "config.problems.answer_problem",
    "UNAUTHENTICATED_USER": None,
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Farebox",
    "DESCRIPTION": "May this call be made, what did it cost, who pays.",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "AUTHENTICATION_WHITELIST": [],  # config.openapi says which key each path takes
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "config.openapi.add_gate_paths",
    ],
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "COMPONENT_SPLIT_REQUEST": True,
    "ENUM_NAME_OVERRIDES": {
        "BackfillModeEnum": ["add", "replace"],
        "CreditKindEnum": ["promotional", "paid"],
        "CorrectionKindEnum": ["amend", "void", "restore", "repay"],
        "QuarantineStateEnum": ["waiting", "counted", "duplicate", "discarded"],
    },
}

STRIPE_API_KEY = env.STRIPE_API_KEY.read()
STRIPE_API_BASE = env.STRIPE_API_BASE.read().rstrip("/")
STRIPE_WEBHOOK_SECRET = env.STRIPE_WEBHOOK_SECRET.read()
STRIPE_TAX = env.STRIPE_TAX.read()
STRIPE_TAX_BEHAVIOR = env.STRIPE_TAX_BEHAVIOR.read()
STRIPE_TAX_CODE = env.STRIPE_TAX_CODE.read()
BILLING_TICK_S = env.BILLING_TICK_S.read()
SUSPEND_ON_LOST_DISPUTE = env.SUSPEND_ON_LOST_DISPUTE.read()
CLOSE_GRACE_S = env.CLOSE_GRACE_S.read()
SELLER_NAME = env.SELLER_NAME.read()
SELLER_ADDRESS = env.SELLER_ADDRESS.read()
SELLER_TAX_ID = env.SELLER_TAX_ID.read()
SELLER_EMAIL = env.SELLER_EMAIL.read()
INVOICE_FOOTER = env.INVOICE_FOOTER.read()
INVOICE_PREFIX = env.INVOICE_PREFIX.read()
INVOICE_FONTS = env.INVOICE_FONTS.read()
EVENT_MAX_AGE_DAYS = env.EVENT_MAX_AGE_DAYS.read()
EVENT_MAX_AHEAD_S = env.EVENT_MAX_AHEAD_S.read()
QUARANTINE_EVENTS = env.QUARANTINE_EVENTS.read()
QUARANTINE_BYTES = env.QUARANTINE_BYTES.read()
QUARANTINE_DAYS = env.QUARANTINE_DAYS.read()
EVENTS_KEPT_MONTHS = env.EVENTS_KEPT_MONTHS.read()
EXPORT_FOLDER = env.EXPORT_FOLDER.read()
BROKER_URL = env.BROKER_URL.read()
DEFAULT_FROM_EMAIL = env.EMAIL_FROM.read()
EMAIL_BACKEND = "django.core.mail.backends.console.EmailBackend"

METRICS_KEY = env.METRICS_KEY.read()
LOG_LEVEL = env.LOG_LEVEL.read()
LOG_FORMAT = env.LOG_FORMAT.read()
LOGGING_CONFIG = "config.telemetry.configure_logging"
LOGGING: dict[str, object] = {"version": 1}  # Django calls LOGGING_CONFIG only if there is some
