"""What every view of the management API stands on, in all three apps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar, cast

from django.db import transaction
from django.db.models import QuerySet
from django.http import Http404, HttpResponse
from django.http.response import HttpResponseBase
from rest_framework import serializers
from rest_framework.exceptions import MethodNotAllowed
from rest_framework.parsers import BaseParser
from rest_framework.permissions import SAFE_METHODS
from rest_framework.renderers import JSONRenderer
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.api.authentication import Caller, CallerKind
from accounts.api.idempotency import HEADER, Claim, KeptAnswer, claim, fingerprint, request_key
from accounts.api.paging import CursorPage
from accounts.api.parsing import BODY_MAX, BodyTooLarge, JSONBody
from accounts.api.serializing import NoQuery, read_body, read_query
from accounts.domain import ids

PROBLEM_MEDIA_TYPE = "application/problem+json"
Handler = Callable[..., HttpResponseBase]


class ManagementView(APIView):
    """A view with scopes, strict bodies, idempotent POSTs, pages, and one transaction per write.

    A subclass says who may call: `callers` (kinds) and `scopes` (method -> scope, for operators).
    A request that writes runs in one transaction, which an answer of 400 and above undoes; a view
    that must commit between two steps sets `one_transaction = False` and is then repeatable by
    its operations' own idempotency.
    """

    callers: ClassVar[frozenset[CallerKind]] = frozenset({"operator"})
    scopes: ClassVar[Mapping[str, str]] = {}
    one_transaction: ClassVar[bool] = True
    body_max: ClassVar[int] = BODY_MAX
    parser_classes: ClassVar[list[type[BaseParser]]] = [JSONBody]  # type: ignore[misc]
    renderer_classes = [JSONRenderer]
    metadata_class = None
    http_method_names = ["get", "head", "post", "put", "patch", "delete"]

    @property
    def caller(self) -> Caller:
        """Who calls; there is one in every handler."""
        assert isinstance(self.request.auth, Caller)
        return self.request.auth

    @property
    def actor(self) -> str:
        """The caller's id, as the audit keeps it."""
        return self.caller.id

    @property
    def customer_id(self) -> int:
        """Whose key this is, where only customers call."""
        assert self.caller.customer_id is not None
        return self.caller.customer_id

    @property
    def now(self) -> datetime:
        """The time, read once per request and handed down."""
        if not hasattr(self, "_now"):
            self._now = datetime.now(UTC)
        return self._now

    @property
    def request_key(self) -> str | None:
        """Names this request and its repeats, where it has an Idempotency-Key.

        For work that commits before its answer is kept: it is stored with the work.
        """
        key = self.request.headers.get(HEADER)
        return None if key is None else request_key(caller=self.caller.id, key=key)

    def body(self, shape: type[serializers.Serializer[Any]]) -> dict[str, Any]:
        """The validated body."""
        return read_body(shape, self.request)

    def query(self, shape: type[serializers.Serializer[Any]] = NoQuery) -> dict[str, Any]:
        """The validated query, without `limit` and `cursor`."""
        return read_query(shape, self.request)

    def page(
        self,
        queryset: QuerySet[Any],
        shape: type[serializers.BaseSerializer[Any]],
        *,
        ordering: Iterable[str] = ("-id",),
    ) -> Response:
        """One page of the queryset in this shape, newest first unless told otherwise."""
        page = CursorPage(queryset, self.request, tuple(ordering))
        return Response(page.body([shape(row).data for row in page.rows]))

    def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        """Answer the request: authenticate, permit, claim the idempotency key, handle."""
        self.args, self.kwargs = args, kwargs
        self.request = self.initialize_request(request, *args, **kwargs)
        self.headers = self.default_response_headers
        try:
            self.initial(self.request, *args, **kwargs)
            response = self._handle()
        except Exception as error:  # noqa: BLE001  (the door: every error becomes a problem)
            response = self.handle_exception(error)
        self.response = self.finalize_response(
            self.request, cast("Response", response), *args, **kwargs
        )
        return self.response

    def _handle(self) -> HttpResponseBase:
        method = str(self.request.method)
        handler = getattr(self, method.lower(), None)
        if handler is None or method.lower() not in self.http_method_names:
            raise MethodNotAllowed(method)
        if method in SAFE_METHODS:
            return self._call(handler)
        self._refuse_large_bodies()
        claimed = self._claim()
        if isinstance(claimed, KeptAnswer):
            return _replayed(claimed)
        return self._write(handler, claimed)

    def _call(self, handler: Handler) -> HttpResponseBase:
        return handler(self.request, *self.args, **self.kwargs)

    def _write(self, handler: Handler, claimed: Claim | None) -> HttpResponseBase:
        response: HttpResponseBase
        try:
            if not self.one_transaction:
                response = self._call(handler)
            else:
                with transaction.atomic():
                    response = self._call(handler)
                    if response.status_code >= 400:
                        transaction.set_rollback(True)
                    elif claimed is not None:
                        claimed.keep(status=response.status_code, text=_text(response))
                        claimed = None
        except Exception as error:  # noqa: BLE001  (so that a refusal is kept like an answer)
            response = self.handle_exception(error)
        if claimed is not None:
            if response.status_code < 500:
                claimed.keep_refusal(status=response.status_code, text=_text(response))
            else:
                claimed.forget()
        return response

    def _refuse_large_bodies(self) -> None:
        sentence = f"The body may have {self.body_max:,} bytes at most."
        announced = str(self.request.META.get("CONTENT_LENGTH") or "0")
        if announced.isdigit() and int(announced) > self.body_max:
            raise BodyTooLarge(sentence)
        if len(self.request.body) > self.body_max:
            raise BodyTooLarge(sentence)

    def _claim(self) -> Claim | KeptAnswer | None:
        key = self.request.headers.get(HEADER)
        if (
            key is None
            or self.request.method != "POST"
            or not isinstance(self.request.auth, Caller)
        ):
            return None
        return claim(
            caller=self.caller.id, key=key, fingerprint=fingerprint(self.request), now=self.now
        )


def number_of(prefix: str, public_id: str) -> int:
    """The number in a public id of an address; anything else is Http404."""
    try:
        return ids.decode(prefix, public_id)
    except ids.IdMalformed as error:
        raise Http404(f"There is nothing with the id {public_id[:60]}.") from error


def _text(response: HttpResponseBase) -> str:
    if isinstance(response, Response):
        return JSONRenderer().render(response.data).decode()
    return str(getattr(response, "content", b"").decode())


def _replayed(kept: KeptAnswer) -> HttpResponseBase:
    media_type = PROBLEM_MEDIA_TYPE if kept.status >= 400 else "application/json"
    response = HttpResponse(kept.text, status=kept.status, content_type=media_type)
    response["Farebox-Replayed"] = "true"
    return response
