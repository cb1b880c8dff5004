"""The one table from errors to problems, and the answers made of them (RFC 9457).

An error says what happened in a sentence; here stands what that means over HTTP. Its optional
attributes `param` (the member at fault) and `members` (further members of the body) are passed on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import structlog
from django.conf import settings
from django.core.exceptions import PermissionDenied, RequestDataTooBig
from django.http import Http404, HttpRequest, HttpResponse
from rest_framework import exceptions as rest
from rest_framework.renderers import JSONRenderer
from rest_framework.response import Response

from accounts.api import authentication, idempotency, parsing, permissions
from accounts.domain import ids, keys, routes, scopes
from accounts.domain.problem_types import PROBLEM_TYPES
from accounts.operations import customers, gateways, members, versions
from accounts.operations import erasing as account_erasing
from accounts.operations import keys as key_operations
from billing.domain import discounts as billing_discounts
from billing.domain import invoices as billing_invoices
from billing.domain import plan_changes
from billing.domain import subscriptions as billing_subscriptions
from billing.domain import top_ups as billing_top_ups
from billing.operations import (
    billing_details,
    catalogue,
    changing,
    checkout,
    collecting,
    couponing,
    crediting,
    customer_credits,
    drawing,
    erasing,
    foreseeing,
    holding,
    invoice_moves,
    limiting,
    migrating,
    overriding,
    plan_shapes,
    simulating,
    subscribing,
    topping_up,
)
from billing.payments import checkout as stripe_pages
from billing.payments import inbox
from billing.queries import catalogue as billing_plans
from metering.domain import prices as metering_prices
from metering.operations import (
    backfilling,
    correcting,
    defining,
    entitling,
    granting,
    meter_shapes,
    pricing,
    rerolling,
)
from metering.operations import retiring as metering_retiring
from metering.queries import usage as metering_usage

R = TypeVar("R", bound=HttpResponse)
log = structlog.get_logger(__name__)
MEDIA_TYPE = "application/problem+json"
AUTHENTICATE = 'Bearer realm="farebox"'
ERRORS_SHOWN_MAX = 20

PROBLEMS: dict[type[Exception], str] = {
    # Django and DRF
    Http404: "not_found",
    rest.NotFound: "not_found",
    PermissionDenied: "not_signed_in",
    rest.PermissionDenied: "scope_missing",
    rest.NotAuthenticated: "key_missing",
    rest.AuthenticationFailed: "key_unknown",
    rest.ParseError: "body_malformed",
    rest.MethodNotAllowed: "method_not_allowed",
    rest.NotAcceptable: "not_acceptable",
    rest.UnsupportedMediaType: "media_type_unsupported",
    rest.Throttled: "rate_exceeded",
    RequestDataTooBig: "body_too_large",
    # accounts: who calls, and how
    permissions.KeyMissing: "key_missing",
    keys.KeyMalformed: "key_malformed",
    authentication.KeyUnknownHere: "key_unknown",
    authentication.KeyRevoked: "key_revoked",
    authentication.KeyExpired: "key_expired",
    permissions.WrongKindOfKey: "wrong_kind_of_key",
    permissions.ScopeMissing: "scope_missing",
    parsing.BodyTooLarge: "body_too_large",
    idempotency.IdempotencyKeyInvalid: "parameter_invalid",
    idempotency.IdempotencyKeyInUse: "idempotency_key_in_use",
    idempotency.IdempotencyKeyReused: "idempotency_key_reused",
    # What the operations of accounts refuse.
    ids.IdMalformed: "not_found",
    versions.CustomerUnknown: "customer_unknown",
    customers.ExternalIdTaken: "conflict",
    customers.ExternalIdReserved: "parameter_invalid",
    customers.CurrencyFixed: "conflict",
    account_erasing.CustomerErased: "conflict",
    members.EmailTaken: "conflict",
    members.MemberUnknown: "not_found",
    members.PasswordWeak: "parameter_invalid",
    members.StaffOfNobody: "parameter_invalid",
    key_operations.KeyUnknown: "not_found",
    key_operations.KeyNotLive: "conflict",
    key_operations.ExpiryPassed: "parameter_invalid",
    key_operations.OverlapInvalid: "parameter_invalid",
    gateways.GatewayUnknown: "not_found",
    gateways.GatewayNameTaken: "conflict",
    routes.RouteMalformed: "parameter_invalid",
    scopes.ScopeUnknown: "parameter_invalid",
    # What the operations of metering refuse.
    correcting.EventUnknown: "not_found",
    correcting.EventVoided: "conflict",
    correcting.CorrectionInvalid: "parameter_invalid",
    backfilling.BackfillUnknown: "not_found",
    backfilling.BackfillInvalid: "parameter_invalid",
    backfilling.BackfillNotOpen: "conflict",
    rerolling.RangeInvalid: "events_gone",
    metering_usage.EventsGone: "events_gone",
    metering_retiring.ExportIncomplete: "conflict",
    defining.MeterKeyTaken: "conflict",
    meter_shapes.MeterDefinitionInvalid: "parameter_invalid",
    defining.MeterUnknown: "not_found",
    defining.MeterArchived: "conflict",
    pricing.PriceTableKeyTaken: "conflict",
    pricing.PricesInvalid: "parameter_invalid",
    pricing.PriceVersionUnknown: "not_found",
    pricing.PriceVersionActive: "conflict",
    metering_prices.PriceUnknown: "price_unknown",
    entitling.RightsContradict: "conflict",
    granting.GrantInvalid: "parameter_invalid",
    granting.GrantUnknown: "not_found",
    # What the operations of billing refuse.
    plan_shapes.PlanInvalid: "parameter_invalid",
    catalogue.PlanKeyTaken: "conflict",
    catalogue.VersionNotDraft: "conflict",
    billing_plans.PlanUnknown: "parameter_invalid",
    billing_plans.PlanNotOnSale: "conflict",
    billing_plans.CurrencyUnfit: "parameter_invalid",
    subscribing.AlreadySubscribed: "conflict",
    subscribing.StartInvalid: "parameter_invalid",
    subscribing.SeatsInvalid: "parameter_invalid",
    migrating.MigrationRefused: "parameter_invalid",
    migrating.MigrationUnknown: "not_found",
    simulating.SimulationRefused: "parameter_invalid",
    simulating.SimulationUnknown: "not_found",
    subscribing.SubscriptionUnknown: "not_found",
    billing_subscriptions.SubscriptionTransitionRefused: "conflict",
    plan_changes.PlanChangeRefused: "conflict",
    changing.PaymentMethodNeeded: "conflict",
    checkout.CheckoutUnknown: "not_found",
    checkout.CheckoutAlready: "conflict",
    invoice_moves.InvoiceUnknown: "not_found",
    billing_invoices.InvoiceTransitionRefused: "conflict",
    collecting.InvoiceHasPayments: "conflict",
    collecting.CollectedByStripe: "conflict",
    holding.NotDeletedAtStripe: "conflict",
    foreseeing.BackfillBusy: "conflict",
    foreseeing.TooMuchToForesee: "conflict",
    limiting.SpendLimitInvalid: "parameter_invalid",
    limiting.SpendLimitLoosened: "conflict",
    billing_details.BillingDetailsInvalid: "parameter_invalid",
    overriding.OverrideInvalid: "parameter_invalid",
    overriding.OverrideOverlaps: "conflict",
    overriding.OverrideUnknown: "not_found",
    billing_discounts.CouponInvalid: "parameter_invalid",
    couponing.CouponCodeTaken: "conflict",
    couponing.CouponUnknown: "parameter_invalid",
    couponing.CouponRefused: "conflict",
    couponing.RedemptionUnknown: "not_found",
    crediting.AmountInvalid: "parameter_invalid",
    erasing.CustomerInUse: "conflict",
    customer_credits.CreditInvalid: "parameter_invalid",
    customer_credits.CreditUnknown: "not_found",
    crediting.CreditTooMuch: "parameter_invalid",
    crediting.InvoiceNotIssued: "conflict",
    crediting.TopUpNotCredited: "conflict",
    billing_top_ups.TopUpInvalid: "parameter_invalid",
    topping_up.AutoTopUpLoosened: "conflict",
    topping_up.TopUpRefused: "conflict",
    topping_up.TopUpUnderWay: "conflict",
    topping_up.TopUpRepeated: "idempotency_key_reused",
    topping_up.TopUpUnknown: "not_found",
    drawing.WalletTooEmpty: "conflict",
    # What Stripe's side of billing refuses.
    inbox.SignatureInvalid: "signature_invalid",
    inbox.EventMalformed: "body_malformed",
    stripe_pages.CheckoutClosed: "conflict",
    stripe_pages.StripePageUnavailable: "unavailable",
}
# What DRF's validation says, in our codes; a code that is a problem of its own stays.
_VALIDATION = {"required": "parameter_missing", "unknown": "parameter_unknown"}


def code_of(error: Exception) -> str | None:
    """The problem's code for an error of this class or of the nearest one it derives from."""
    for each in type(error).__mro__:
        if code := PROBLEMS.get(each):
            return code
    return None


def problem_body(
    code: str, *, detail: str = "", instance: str = "", param: str | None = None, **members: Any
) -> dict[str, Any]:
    """The members of a problem: those of RFC 9457, then ours."""
    kind = PROBLEM_TYPES[code]
    body: dict[str, Any] = {
        "type": problem_address(code),
        "title": kind.title,
        "status": kind.status,
        "detail": detail or kind.when,
    }
    if instance:
        body["instance"] = instance
    body["code"] = code
    if param is not None:
        body["param"] = param
    return body | members


def problem_address(code: str) -> str:
    """The page that explains a problem."""
    return f"{settings.BASE_URL}/docs/problems/{code}"


def problem_response(
    code: str, *, detail: str = "", instance: str = "", param: str | None = None, **members: Any
) -> HttpResponse:
    """A problem as an answer of a plain Django view."""
    body = problem_body(code, detail=detail, instance=instance, param=param, **members)
    response = HttpResponse(
        JSONRenderer().render(body), status=body["status"], content_type=MEDIA_TYPE
    )
    return _with_headers(response, code)


def answer_problem(error: Exception, context: Mapping[str, Any]) -> Response:
    """DRF's exception handler: every error becomes a problem, the unexpected an `internal_error`.

    What is not in the table is logged with its trace under the request's id; the answer says
    nothing of it.
    """
    request = context.get("request")
    instance = request.path if request is not None else ""
    if isinstance(error, rest.ValidationError):
        body = _validation_body(error, instance)
    elif (code := code_of(error)) is not None:
        body = problem_body(
            code,
            detail=_sentence(error),
            instance=instance,
            param=getattr(error, "param", None),
            **getattr(error, "members", {}),
        )
    else:
        log.error("request.failed", path=instance, exc_info=error)
        body = problem_body("internal_error", instance=instance)
    response = Response(body, status=body["status"], content_type=MEDIA_TYPE)
    return _with_headers(response, body["code"])


def page_not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """404 outside any view: a problem under /api, a page elsewhere."""
    if _is_api(request):
        return problem_response("not_found", detail=f"There is no {request.path}.")
    from django.views.defaults import page_not_found as page

    return page(request, exception)


def server_error(request: HttpRequest) -> HttpResponse:
    """500 outside any view: a problem under /api, a page elsewhere."""
    if _is_api(request):
        return problem_response("internal_error", instance=request.path)
    from django.views.defaults import server_error as page

    return page(request)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """400 outside any view: a problem under /api, a page elsewhere."""
    if _is_api(request):
        return problem_response("body_malformed", instance=request.path)
    from django.views.defaults import bad_request as page

    return page(request, exception)


def _is_api(request: HttpRequest) -> bool:
    return request.path.startswith("/api/v1/")


def _sentence(error: Exception) -> str:
    if isinstance(error, Http404 | PermissionDenied):
        text = str(error)
        # Django's own 404s name models and patterns, which are nobody's business.
        return text if text.startswith("There is") else ""
    if isinstance(error, rest.APIException):
        return str(error.detail)
    return str(error)


def _with_headers(response: R, code: str) -> R:
    if response.status_code == 401:
        error = "" if code == "key_missing" else ', error="invalid_token"'
        response["WWW-Authenticate"] = AUTHENTICATE + error
    response["Cache-Control"] = "no-store"
    return response


def _validation_body(error: rest.ValidationError, instance: str) -> dict[str, Any]:
    found = list(_walk(error.detail, ""))
    first = found[0] if found else ("", "parameter_invalid", "The body does not fit.")
    param, code, detail = first
    members: dict[str, Any] = {}
    if len(found) > 1:
        members["errors"] = [
            {"param": each[0], "code": each[1], "detail": each[2]}
            for each in found[:ERRORS_SHOWN_MAX]
        ]
    return problem_body(code, detail=detail, instance=instance, param=param or None, **members)


def _walk(detail: Any, path: str) -> Iterator[tuple[str, str, str]]:
    """Every error of a validation as (path, code, sentence), in the order of the shape."""
    if isinstance(detail, Mapping):
        for name, each in detail.items():
            yield from _walk(each, _step(path, name))
    elif isinstance(detail, list | tuple):
        for index, each in enumerate(detail):
            plain = not isinstance(each, Mapping | list | tuple)
            yield from _walk(each, path if plain else f"{path}[{index}]")
    else:
        code = getattr(detail, "code", "invalid")
        ours = code if code in PROBLEM_TYPES else _VALIDATION.get(code, "parameter_invalid")
        yield path, ours, str(detail)


def _step(path: str, name: str | int) -> str:
    if name == "non_field_errors":
        return path
    if isinstance(name, int):
        return f"{path}[{name}]"
    return f"{path}.{name}" if path else name
