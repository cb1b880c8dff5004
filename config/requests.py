"""Every answer carries X-Request-Id: the caller's own where it sent a sane one, else a new one."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable

import structlog
from django.http import HttpRequest, HttpResponse

_SANE = re.compile(r"[A-Za-z0-9._:/+=-]{1,200}")


class RequestIdMiddleware:
    """Sets `request.request_id`, binds it to the logs, and returns it."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer the request with its id."""
        sent = request.headers.get("X-Request-Id", "")
        request_id = sent if _SANE.fullmatch(sent) else f"req_{uuid.uuid4().hex}"
        request.META["farebox.request_id"] = request_id
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            response = self._get_response(request)
        response["X-Request-Id"] = request_id
        return response
