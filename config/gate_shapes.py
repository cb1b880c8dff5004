"""The shapes of the hot paths, which are no DRF views, as OpenAPI schemas."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]
QUANTITY_MAX = 10**15


def ref(name: str) -> Schema:
    """A reference to one of the components."""
    return {"$ref": f"#/components/schemas/{name}"}


def thing(
    members: dict[str, Schema], *, required: list[str], about: str = "", strict: bool = False
) -> Schema:
    """An object; a strict one (a request) takes no other members."""
    made: Schema = {"type": "object", "properties": members}
    if required:
        made["required"] = required
    if about:
        made["description"] = about
    if strict:
        made["additionalProperties"] = False
    return made


def text(about: str = "", *, nullable: bool = False, **more: Any) -> Schema:
    """A text."""
    return {"type": "string", **_about(about), **({"nullable": True} if nullable else {}), **more}


def whole(about: str = "", *, least: int = 0, most: int | None = QUANTITY_MAX) -> Schema:
    """A whole number."""
    made: Schema = {"type": "integer", "minimum": least, **_about(about)}
    return made if most is None else {**made, "maximum": most}


def flag(about: str = "") -> Schema:
    """True or false."""
    return {"type": "boolean", **_about(about)}


def instant(about: str = "", *, nullable: bool = False) -> Schema:
    """An RFC 3339 time."""
    return text(about, nullable=nullable, format="date-time")


def many(schema: Schema, *, most: int | None = None) -> Schema:
    """A list."""
    return {"type": "array", "items": schema, **({"maxItems": most} if most else {})}


def choice(*values: str, about: str = "") -> Schema:
    """One of some texts."""
    return {"type": "string", "enum": list(values), **_about(about)}


def _about(about: str) -> Schema:
    return {"description": about} if about else {}


FREE: Schema = {"type": "object", "additionalProperties": {}}
QUANTITY = whole("In the meter's unit; no fractions.")
ITEM = thing(
    {"meter": text("The key of a meter or feature."), "quantity": QUANTITY},
    required=["meter"],
    strict=True,
)
CHECK_MEMBERS: dict[str, Schema] = {
    "key": text("What the customer sent: fb_key_…. Either this or `customer`."),
    "customer": text("cus_… or the operator's external id."),
    "meter": text("The key of a meter or feature. Either this or `items`."),
    "quantity": {**QUANTITY, "default": 1},
    "items": {**many(ref("CheckItem"), most=16), "description": "All or none."},
    "mode": {**choice("peek", "consume", "hold"), "default": "peek"},
    "id": text("Required with consume and hold: the idempotency key and the event's id."),
    "source": text("Defaults to the gateway's name."),
    "ttl": {**whole("Seconds a hold lives.", least=1, most=86_400), "default": 60},
    "properties": {**FREE, "description": "Kept on the usage event."},
    "time": instant("When it happened; consume only."),
}
BALANCE = thing(
    {
        "meter": text(),
        "window": text("minute, hour, day, week, month, year or lifetime"),
        "granted": whole(),
        "used": whole(most=None),
        "held": whole("Reserved by open holds."),
        "remaining": whole("granted - used - held, never below 0"),
        "overage": whole("Use past the grants, which is billed."),
        "overage_limit": {**whole("Null: no limit. 0: none is allowed."), "nullable": True},
        "unlimited": flag(),
        "resets_at": instant("Null: never.", nullable=True),
    },
    required=["meter", "granted", "used", "held", "remaining", "overage", "unlimited"],
)
REMEDY = thing(
    {
        "action": choice(
            "upgrade", "update_payment_method", "pay_invoice", "raise_spend_limit", "wait"
        ),
        "plan": text("Which plan to upgrade to."),
        "href": text("Where the customer does it.", format="uri"),
        "at": instant("Until when to wait."),
        "would_admit": flag("Whether this alone would have admitted this very call."),
    },
    required=["action", "would_admit"],
)
PROBLEM_MEMBERS: dict[str, Schema] = {
    "type": text("The page that explains it.", format="uri"),
    "title": text(),
    "status": whole(least=400, most=599),
    "detail": text("What happened, in a sentence."),
    "instance": text("The path or the decision it is about."),
    "code": text("Stable; one of those under /docs/problems/."),
    "param": text("The member at fault, such as entitlements[0].price.tiers."),
}
PROBLEM = thing(
    {
        **PROBLEM_MEMBERS,
        "errors": {
            **many(
                thing(
                    {"param": text(), "code": text(), "detail": text()},
                    required=["param", "code", "detail"],
                )
            ),
            "description": "All members at fault, where there are several.",
        },
    },
    required=["type", "title", "status", "detail", "code"],
    about="RFC 9457 problem details.",
)
DENIAL = thing(
    {
        **PROBLEM_MEMBERS,
        "retry": choice("never", "after_reset", "after_in_flight"),
        "decision": text("dec_…"),
        "customer": text("cus_…"),
        "meter": text(),
        "requested": QUANTITY,
        "max_admissible": whole("What would have been admitted at most."),
        "balances": many(ref("Balance")),
        "remedies": many(ref("Remedy")),
    },
    required=["type", "title", "status", "detail", "code", "retry", "decision", "remedies"],
    about="Why not, and the way out.",
)
HOLD = thing(
    {
        "id": text("hold_…"),
        "state": choice("open", "settled", "released", "expired"),
        "customer": text("cus_…"),
        "opened_at": instant(),
        "expires_at": instant(),
    },
    required=["id"],
)
ALLOWED = thing(
    {
        "allowed": {"type": "boolean", "enum": [True]},
        "decision": text("dec_…"),
        "mode": choice("peek", "consume", "hold"),
        "customer": text("cus_…"),
        "plan": text("The plan's key.", nullable=True),
        "hold": thing({"id": text("hold_…"), "expires_at": instant()}, required=["id"]),
        "balances": many(ref("Balance")),
        "value": text("Of a static entitlement."),
    },
    required=["allowed", "decision", "mode", "customer", "balances"],
)
CHECK_RESULT: Schema = {
    "allOf": [
        {"anyOf": [ref("Allowed"), ref("Denial"), ref("Problem")]},  # a denial is a problem, too
        thing(
            {
                "status": whole(least=200, most=599),
                "replayed": flag("True where a repeated id is answered as it was at first."),
            },
            required=["status"],
        ),
    ]
}
SETTLE = thing(
    {
        "quantity": {**QUANTITY, "description": "What was really used; 0 is allowed."},
        "items": many(ref("CheckItem"), most=16),
        "properties": {**FREE, "description": "Added to those of the hold."},
    },
    required=[],
    about="`quantity`, or `items` where the hold has several.",
    strict=True,
)
SETTLED = thing(
    {
        "hold": ref("Hold"),
        "event": text("evt_…, the usage event that was counted"),
        "items": many(ref("CheckItem")),
        "over_hold": flag("More was used than held; all of it is charged."),
        "late": flag("Settled after the hold had expired; the usage counts."),
        "balances": many(ref("Balance")),
    },
    required=["hold", "event", "items", "over_hold", "late", "balances"],
)
EVENT: Schema = {
    **thing(
        {
            "specversion": {"type": "string", "enum": ["1.0"], "default": "1.0"},
            "id": text("Unique per source and customer: the idempotency key.", maxLength=255),
            "source": text(maxLength=200),
            "type": text("Selects the meters.", maxLength=200),
            "subject": text("Customer id, external id or key.", maxLength=200),
            "time": instant("When it happened; now where it is absent."),
            "data": {
                **FREE,
                "description": "Properties; `quantity` counts as such; `hold` settles that hold.",
            },
            "datacontenttype": text(),
        },
        required=["id", "source", "type", "subject"],
        about="CloudEvents 1.0; extension attributes are allowed and left alone.",
    ),
    "additionalProperties": True,
}
COUNTED = thing(
    {
        "accepted": whole(most=None),
        "duplicates": whole(most=None),
        "rejected": many(
            thing(
                {
                    "index": whole(most=None),
                    "id": text(nullable=True),
                    "code": text(),
                    "detail": text(),
                    "param": text("The member at fault."),
                    "quarantined": flag("Kept, to be counted once the reason is mended."),
                    "event": text("Where it is kept, qua_…: `GET /events/{event}` tells why."),
                },
                required=["index", "code", "detail"],
            )
        ),
        "ignored": whole("Items about nobody's usage, such as calls without a key.", most=None),
    },
    required=["accepted", "duplicates", "rejected"],
    about="The fate of each event, after the commit.",
)
LAGO_EVENT: Schema = {
    **thing(
        {
            "transaction_id": text("The idempotency key.", minLength=1, maxLength=255),
            "external_customer_id": text("Either this or external_subscription_id."),
            "external_subscription_id": text(),
            "code": text("Selects the meters.", minLength=1, maxLength=200),
            "timestamp": {"description": "Unix seconds, or RFC 3339; now where it is absent."},
            "properties": FREE,
            "precise_total_amount_cents": text(),
        },
        required=["transaction_id", "code"],
        about="An event as Lago's clients send it.",
    ),
    "additionalProperties": True,
}
SHAPES: dict[str, Schema] = {
    "CheckItem": ITEM,
    "Check": thing(CHECK_MEMBERS, required=[], strict=True),
    "Checks": thing({"checks": many(ref("Check"), most=1_000)}, required=["checks"], strict=True),
    "Allowed": ALLOWED,
    "Denial": DENIAL,
    "CheckResults": thing({"results": many(CHECK_RESULT)}, required=["results"]),
    "Balance": BALANCE,
    "Remedy": REMEDY,
    "Problem": PROBLEM,
    "Hold": HOLD,
    "HoldAnswer": thing({"hold": ref("Hold")}, required=["hold"]),
    "Settle": SETTLE,
    "Settled": SETTLED,
    "Release": thing({}, required=[], about="Nothing.", strict=True),
    "Released": thing(
        {"hold": ref("Hold"), "balances": many(ref("Balance"))}, required=["hold", "balances"]
    ),
    "Extend": thing({"ttl": whole(least=1, most=86_400)}, required=["ttl"], strict=True),
    "CloudEvent": EVENT,
    "LagoEvent": LAGO_EVENT,
    "LagoEventAlone": thing({"event": ref("LagoEvent")}, required=["event"]),
    "LagoEvents": thing({"events": many(ref("LagoEvent"), most=5_000)}, required=["events"]),
    "Counted": COUNTED,
}
