"""Every address that Django answers; the hot paths are the gate's (config/asgi.py)."""

from __future__ import annotations

from importlib.util import find_spec

from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path

from config import documentation, health, metrics

APPS = ("accounts", "metering", "billing")


def _of_each_app(room: str) -> list[URLResolver]:
    """The routes of an app's `api` or `pages`, where it has any."""
    return [
        path("", include(f"{app}.{room}.urls"))
        for app in APPS
        if find_spec(f"{app}.{room}") and find_spec(f"{app}.{room}.urls")
    ]


urlpatterns: list[URLPattern | URLResolver] = [
    path("healthz", health.healthz),
    path("readyz", health.readyz),
    path("metrics", metrics.metrics),
    path("api/docs", documentation.api_page, name="api"),
    path("api/v1/openapi.json", documentation.openapi_json, name="openapi"),
    path("docs/problems/", documentation.problems_page, name="problems"),
    path("docs/problems/<str:code>", documentation.problem_page, name="problem"),
    path("api/v1/", include(_of_each_app("api"))),
    *_of_each_app("pages"),  # some of them are the operators', under /admin/ too
    path("admin/", admin.site.urls),
]
handler400 = "config.problems.bad_request"
handler404 = "config.problems.page_not_found"
handler500 = "config.problems.server_error"
