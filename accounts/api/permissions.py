"""Whether this caller may do this."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ImproperlyConfigured
from rest_framework.exceptions import MethodNotAllowed
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from accounts.api.authentication import Caller
from accounts.domain.scopes import allows

_CARRIES = {
    "operator": "fb_op_…",
    "customer": "fb_key_…",
    "gateway": "fb_gw_…",
    "member": "a session",
}


class KeyMissing(Exception):
    """No credential came with the call."""


class WrongKindOfKey(Exception):
    """The key is valid, but this path is for another kind of caller."""


class ScopeMissing(Exception):
    """The operator key lacks the scope that this needs."""


class HasScope(BasePermission):
    """Lets pass whom the view names: `callers` (kinds) and, for operators, `scopes` by method.

    A method that the view handles but does not name in `scopes` is a mistake of ours and fails,
    so that nothing is open by omission.
    """

    def has_permission(self, request: Request, view: Any) -> bool:
        """Return True or raise KeyMissing, WrongKindOfKey, ScopeMissing, MethodNotAllowed."""
        caller = request.auth
        if not isinstance(caller, Caller):
            raise KeyMissing("No key came with the call.")
        method = "GET" if request.method == "HEAD" else str(request.method)
        if method.lower() not in view.http_method_names or not hasattr(view, method.lower()):
            raise MethodNotAllowed(str(request.method))
        if caller.kind not in view.callers:
            wanted = " or ".join(_CARRIES[kind] for kind in sorted(view.callers))
            raise WrongKindOfKey(f"This path is for {wanted}.")
        if caller.kind == "operator":
            needed = view.scopes.get(method)
            if needed is None:
                raise ImproperlyConfigured(f"{type(view).__name__} names no scope for {method}.")
            if not allows(caller.scopes, needed):
                raise ScopeMissing(f"This needs the scope {needed}.")
        return True
