"""Every problem Farebox answers with: one table, from which the pages under /docs/problems come.

RFC 9457 problem details: `type` is the page, `title` the short name, `status` the HTTP status.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ProblemType:
    """One kind of problem: when it is answered and what the caller does about it."""

    code: str
    status: int
    title: str
    when: str
    mend: str


def _table(*types: ProblemType) -> dict[str, ProblemType]:
    return {each.code: each for each in types}


P = ProblemType
PROBLEM_TYPES: dict[str, ProblemType] = _table(
    # 400, 408, 413, 415, 431: the request cannot be read.
    P("body_malformed", 400, "Malformed body", "The body is not the JSON it should be.",
      "Send UTF-8 JSON of the documented shape; the detail names the place."),
    P("envelope_malformed", 400, "Malformed envelope", "The body is not a CloudEvents envelope.",
      "Send CloudEvents 1.0, structured, batched or binary, or a JSON array of events."),
    P("signature_invalid", 400, "Invalid signature", "A webhook's signature does not verify.",
      "Check the endpoint's secret, and that no proxy changes the body."),
    P("method_not_allowed", 405, "Method not allowed", "The path knows no such method.",
      "See the Allow header."),
    P("not_acceptable", 406, "Not acceptable", "No answer of the wanted media type exists.",
      "Ask for application/json."),
    P("request_timeout", 408, "Request timeout", "The request did not arrive in time.",
      "Send it again, at once and whole; for large bodies send smaller batches."),
    P("body_too_large", 413, "Body too large", "The body is larger than this path takes.",
      "Send smaller batches; the detail says the limit."),
    P("media_type_unsupported", 415, "Unsupported media type", "This Content-Type is not taken.",
      "Send application/json, or a CloudEvents type to /events."),
    P("head_too_large", 431, "Head too large", "Path and headers together pass 64 KiB.",
      "Send fewer or shorter headers; look for cookies that pile up."),
    # 401, 403: who is calling.
    P("key_missing", 401, "Key missing", "No credential came with the call.",
      "Send `Authorization: Bearer fb_…`."),
    P("key_malformed", 401, "Key malformed", "The credential cannot be a Farebox key.",
      "A character is missing or wrong: copy the key again."),
    P("key_unknown", 401, "Key unknown", "No such key was ever issued here.",
      "Check that the key belongs to this installation."),
    P("key_revoked", 401, "Key revoked", "The key was revoked.", "Use the key that replaced it."),
    P("key_expired", 401, "Key expired", "The key's time is over.", "Issue a new key."),
    P("wrong_kind_of_key", 403, "Wrong kind of key", "The key is valid but not for this path.",
      "Gateways use fb_gw_…, management fb_op_…, customers fb_key_…."),
    P("scope_missing", 403, "Scope missing", "The operator key lacks the scope this needs.",
      "Issue a key with the scope that the detail names."),
    P("not_signed_in", 403, "Not signed in", "This needs a signed-in member.", "Sign in first."),
    # 402: money or plan.
    P("no_subscription", 402, "No subscription", "The customer has no plan.", "Choose a plan."),
    P("trial_ended", 402, "Trial ended", "The trial is over and nothing was paid.",
      "Add a payment method or choose a plan."),
    P("subscription_inactive", 402, "Subscription inactive",
      "The subscription is cancelled, unpaid, paused or incomplete.", "Choose a plan."),
    P("payment_method_missing", 402, "Payment method missing",
      "The plan needs a usable payment method and there is none.", "Add a payment method."),
    P("payment_failed", 402, "Payment failed", "An invoice is unpaid and its grace is over.",
      "Update the payment method or pay the invoice."),
    P("payment_action_required", 402, "Payment needs confirmation",
      "The bank wants the customer to confirm a payment (3-D Secure).", "Open the invoice's page."),
    P("quota_exhausted", 402, "Quota exhausted",
      "The window's included quantity is used up, or is less than what was asked for.",
      "Upgrade, or wait where `retry` says that it helps."),
    P("credits_exhausted", 402, "Credits exhausted", "What was prepaid is used up.",
      "Upgrade, or ask the operator for more."),
    P("spend_limit_reached", 402, "Spend limit reached",
      "The overage cap of the plan, or the spend limit of the billing period, is reached.",
      "Raise the limit or wait for the reset."),
    P("not_in_plan", 402, "Not in this plan", "The plan lacks this; another one has it.",
      "Upgrade to a plan that has it."),
    P("not_entitled", 403, "Not entitled", "No plan open to this customer has it.",
      "Ask the operator."),
    P("customer_suspended", 403, "Customer suspended", "The operator has suspended the customer.",
      "Ask the operator."),
    # 429: waiting alone helps.
    P("rate_exceeded", 429, "Rate exceeded", "A window of an hour or less is full.",
      "Wait for Retry-After."),
    P("in_flight", 429, "Held by calls in flight", "Only open holds stand in the way.",
      "Settle or release holds, or wait until they expire."),
    P("sign_in_throttled", 429, "Too many attempts", "Too many failed sign-ins.", "Wait a while."),
    # 404, 409, 422: asked wrongly.
    P("not_found", 404, "Not found", "There is no such thing, or it is not yours to see.",
      "Check the id."),
    P("id_in_use", 409, "Id in use", "The same id is being decided at this moment.",
      "Retry with the same id and body."),
    P("idempotency_key_in_use", 409, "Idempotency key in use",
      "A request with this Idempotency-Key is under way.", "Retry in a moment."),
    P("hold_settled", 409, "Hold settled", "The hold has been settled and cannot be released.",
      "Nothing: its usage is counted."),
    P("hold_released", 409, "Hold released", "The hold was released before.",
      "Report the usage as an event."),
    P("hold_expired", 409, "Hold expired", "The hold's time is over; it cannot be extended.",
      "Open a new hold; a settle would still count what was used."),
    P("conflict", 409, "Conflict", "The thing's present state does not allow this.",
      "The detail says which state it is in."),
    P("events_gone", 409, "Events gone",
      "The events that this would be counted from were dropped after their retention.",
      "Ask for whole hours where that is possible; what was dropped cannot be corrected."),
    P("id_reused", 422, "Id reused", "This id was used before with another body.",
      "Make a new id for every different call."),
    P("idempotency_key_reused", 422, "Idempotency key reused",
      "This Idempotency-Key was used with another request.", "Use a new key."),
    P("meter_unknown", 422, "Unknown meter", "No meter or feature has this key.",
      "The detail offers the nearest names."),
    P("route_unknown", 422, "No route", "No route of the gateway fits the forwarded request.",
      "Give the gateway a route for this method and path, or send X-Farebox-Meter."),
    P("customer_unknown", 422, "Unknown customer", "No customer has this id.",
      "Create the customer, or check the id."),
    P("quantity_invalid", 422, "Invalid quantity", "A quantity is not a whole number in range.",
      "Send a whole number of the meter's unit, 0 to 1,000,000,000,000,000."),
    P("price_unknown", 422, "Price unknown",
      "A meter of costs has no price for the event's model, token class or time.",
      "Add the model, or `*`, to the price table in a new version; then send the event again."),
    P("time_out_of_range", 422, "Time out of range", "The time stamp is too old or in the future.",
      "Check the clock, or import history with `replay`."),
    P("parameter_missing", 422, "Parameter missing", "A required member is absent.",
      "`param` names it."),
    P("parameter_unknown", 422, "Unknown parameter", "The body has a member nobody knows.",
      "`param` names it; it is refused so that a typing error is not ignored."),
    P("parameter_invalid", 422, "Invalid parameter", "A member's value does not fit.",
      "`param` names it and the detail says what fits."),
    P("too_many_items", 422, "Too many items", "The list is longer than this path takes.",
      "Split it; the detail says the limit."),
    # 5xx: ours.
    P("internal_error", 500, "Internal error", "Something is wrong on our side; it was logged.",
      "Retry with the same id; report the X-Request-Id."),
    P("gateway_misconfigured", 503, "Gateway misconfigured",
      "The gateway, not the request that it forwarded, is at fault: its own key is not good, no"
      " route of it fits, or what it asks for cannot be asked.",
      "Callers can do nothing; for the gateway's operator `fault` has the code of what is wrong,"
      " and the detail says what."),
    P("unavailable", 503, "Unavailable", "We cannot decide at this moment.",
      "Retry after Retry-After with the same id."),
    P("overloaded", 503, "Overloaded", "More calls wait than we can answer in time.",
      "Retry after Retry-After with the same id."),
)  # fmt: skip
