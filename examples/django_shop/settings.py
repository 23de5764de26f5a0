"""Settings. What differs between the sandbox and the live shop comes from the environment."""

import os
from pathlib import Path
from urllib.parse import urlsplit

HERE = Path(__file__).parent
OWN_URL = os.environ["SHOP_URL"]  # never from a request's Host header: the vendor posts its decisions there
LIGHTBOX_URL = os.environ["SHOP_LIGHTBOX_URL"]

DEBUG = os.environ.get("SHOP_DEBUG") == "yes"
SECRET_KEY = os.environ["SHOP_SECRET_KEY"]
ALLOWED_HOSTS = [urlsplit(OWN_URL).hostname or ""]
ROOT_URLCONF = "django_shop.urls"
STATIC_URL = "static/"
TIME_ZONE = "UTC"
USE_TZ = True
CSRF_COOKIE_SECURE = SESSION_COOKIE_SECURE = OWN_URL.startswith("https:")
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("SHOP_DATABASE", HERE / "shop.db"),
        "OPTIONS": {"timeout": 20},  # seconds that one process waits for another one's write
    }
}
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "wegetfinancing.contrib.django",
    "django_shop",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
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
WEGETFINANCING = {
    "MERCHANT_ID": os.environ["WEGETFINANCING_MERCHANT_ID"],
    "USERNAME": os.environ["WEGETFINANCING_USERNAME"],
    "PASSWORD": os.environ["WEGETFINANCING_PASSWORD"],
    "ENVIRONMENT": os.environ.get("WEGETFINANCING_ENVIRONMENT", "sandbox"),
    "BASE_URL": os.environ.get("WEGETFINANCING_BASE_URL"),
    "TIMEOUT": float(os.environ.get("SHOP_TIMEOUT", "20")),
    "APPLY": "django_shop.payments.apply",
}
