"""The description of the API: DRF's views by drf-spectacular, the hot paths by hand."""

from __future__ import annotations

from functools import cache
from typing import Any

from drf_spectacular.generators import SchemaGenerator

from config.gate_shapes import FREE, SHAPES, Schema, many, ref, text

BASE = "/api/v1"
PROBLEM_ANSWER: Schema = {
    "description": "A problem (RFC 9457).",
    "content": {"application/problem+json": {"schema": ref("Problem")}},
}
IDEMPOTENCY_KEY: Schema = {
    "in": "header",
    "name": "Idempotency-Key",
    "schema": text(minLength=1, maxLength=255),
    "description": "A repeat with the same body answers as the first, `Farebox-Replayed: true`.",
}
KEYS: dict[str, Schema] = {
    "operatorKey": {"type": "http", "scheme": "bearer", "description": "fb_op_…, with scopes."},
    "customerKey": {"type": "http", "scheme": "bearer", "description": "fb_key_…"},
    "gatewayKey": {"type": "http", "scheme": "bearer", "description": "fb_gw_…"},
    "gatewayHeader": {
        "type": "apiKey",
        "in": "header",
        "name": "X-Farebox-Gateway",
        "description": "fb_gw_…, where Authorization has the customer's key.",
    },
}
AUTHORIZE = """\
For gateways that can only forward a request, with any method, and anything behind it in the
path. The customer's key comes in Authorization, X-Api-Key or api-key; what is asked for in
X-Farebox-Meter, -Quantity and -Mode, else from the gateway's routes (X-Forwarded-Method and
-Uri, X-Original-Method and -Uri, or the method and the path); the id in X-Request-Id. Allowed:
200, no body, X-Farebox-Customer, -Plan, -Decision, -Hold and -Value (of a static entitlement,
percent-encoded) always, and `X-Farebox: authorize/1`. Under `/authorize/nginx` a denial is 403
with X-Farebox-Status and X-Farebox-Problem; under `/authorize/nginx-accel` an admission has
`X-Accel-Redirect: @upstream`. What the gateway itself gets wrong, its own key or a route that is
missing, is 503 `gateway_misconfigured` under all of them, with its code in `fault` and in
X-Farebox-Fault: no client is told that it did wrong.
"""
_NOT_FOR_SALE = "For sale in no plan, or suspended; or the key is of another kind."


@cache
def description() -> dict[str, Any]:
    """The whole API as an OpenAPI 3 document; made once per process."""
    generator: Any = SchemaGenerator  # ships no types
    made = generator().get_schema(request=None, public=True)
    assert isinstance(made, dict)
    return made


def add_gate_paths(
    result: dict[str, Any],
    generator: Any,  # noqa: ARG001
    request: Any,  # noqa: ARG001
    public: bool,  # noqa: ARG001, FBT001
) -> dict[str, Any]:
    """Postprocessing hook of drf-spectacular: the hot paths, problems, keys, Idempotency-Key."""
    components = result.setdefault("components", {})
    components["schemas"] = {**components.get("schemas", {}), **SHAPES}
    components["securitySchemes"] = KEYS
    for path, operations in result["paths"].items():
        for method, operation in operations.items():
            _complete(path, method, operation)
    for path, operations in gate_paths().items():
        result["paths"].setdefault(path, {}).update(operations)
    result["paths"] = dict(sorted(result["paths"].items()))
    return result


def gate_paths() -> dict[str, dict[str, Any]]:
    """The paths that the gate answers, in OpenAPI's form."""
    hold = {"in": "path", "name": "id", "required": True, "schema": text("hold_…")}
    one_or_many = {"oneOf": [ref("Check"), ref("Checks")]}
    checked = {"oneOf": [ref("Allowed"), ref("CheckResults")]}
    refusals = {
        "402": _denied("Money or plan."),
        "403": _denied(_NOT_FOR_SALE, ref("Problem")),
        "429": _denied("Waiting alone helps."),
        "409": PROBLEM_ANSWER,
        "422": PROBLEM_ANSWER,
    }
    events = {
        "application/cloudevents+json": {"schema": ref("CloudEvent")},
        "application/cloudevents-batch+json": {"schema": many(ref("CloudEvent"), most=5_000)},
        "application/json": {
            "schema": {
                "oneOf": [
                    many(ref("CloudEvent"), most=5_000),
                    ref("CloudEvent"),
                    ref("LagoEventAlone"),
                ]
            }
        },
    }
    return {
        f"{BASE}/check": {
            "post": _operation(
                "check", "May this customer make this call?", one_or_many, checked, refusals
            )
        },
        f"{BASE}/authorize": {
            "get": {
                **_operation("authorize", "May this request go on?", None, {}, refusals),
                "description": AUTHORIZE,
                "security": [{"gatewayHeader": []}],
                "responses": {
                    "200": {"description": "Yes."},
                    **refusals, "503": PROBLEM_ANSWER,
                    "default": PROBLEM_ANSWER,
                },
            }
        },
        f"{BASE}/holds/{{id}}": {
            "get": _operation("hold", "See a hold", None, ref("HoldAnswer"), {}, hold)
        },
        f"{BASE}/holds/{{id}}/settle": {
            "post": _operation(
                "hold_settle", "Charge what was really used, free the rest",
                ref("Settle"), ref("Settled"), {}, hold,
            )
        },
        f"{BASE}/holds/{{id}}/release": {
            "post": _operation(
                "hold_release", "Free what was held", ref("Release"), ref("Released"), {}, hold
            )
        },
        f"{BASE}/holds/{{id}}/extend": {
            "post": _operation(
                "hold_extend", "Hold longer", ref("Extend"), ref("HoldAnswer"), {}, hold
            )
        },
        f"{BASE}/events": {
            "post": {
                **_operation("events_report", "Report usage", None, ref("Counted"), {}),
                "requestBody": {"required": True, "content": events},
            }
        },
        **_ingest_paths(),
    }  # fmt: skip


def _ingest_paths() -> dict[str, dict[str, Any]]:
    """The paths that take usage in the shapes of other systems."""
    one_or_many: Schema = {"oneOf": [FREE, many(FREE, most=5_000)]}
    parameters = [
        {"in": "query", "name": name, "schema": text(minLength=1, maxLength=200), "description": d}
        for name, d in (
            ("type", "The type of the events, which selects the meters."),
            ("customer", "Which member says whose usage it is."),
            ("source", "The events' source; the gateway's name where it is not said."),
        )
    ]
    shapes = {
        "litellm": "Report calls as LiteLLM's StandardLoggingPayload",
        "apipark": "Report calls as APIPark's http_output writes them",
        "access-log": "Report requests as lines of an access log",
    }
    paths = {
        f"{BASE}/ingest/{shape}": {
            "post": _operation(
                f"ingest_{shape.replace('-', '_')}", summary, one_or_many, ref("Counted"), {},
                *parameters,
            )
        }
        for shape, summary in shapes.items()
    }  # fmt: skip
    log = paths[f"{BASE}/ingest/access-log"]["post"]["requestBody"]["content"]
    log["application/x-ndjson"] = {"schema": text("One JSON object a line.")}
    paths[f"{BASE}/events/batch"] = {
        "post": _operation(
            "events_batch", "Report usage in Lago's shape", ref("LagoEvents"), ref("Counted"), {}
        )
    }
    return paths


def _operation(
    name: str,
    summary: str,
    body: Schema | None,
    answer: Schema,
    others: dict[str, Schema],
    *parameters: Schema,
) -> dict[str, Any]:
    made: dict[str, Any] = {
        "operationId": name,
        "summary": summary,
        "tags": ["gate"],
        "security": [{"gatewayKey": []}],
        "responses": {
            "200": {"description": "", "content": {"application/json": {"schema": answer}}},
            **others,
            "default": PROBLEM_ANSWER,
        },
    }
    if body is not None:
        made["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    if parameters:
        made["parameters"] = list(parameters)
    return made


def _denied(about: str, *others: Schema) -> Schema:
    # Not oneOf: a denial is a problem, too.
    schema = {"anyOf": [ref("Denial"), *others]} if others else ref("Denial")
    return {"description": about, "content": {"application/problem+json": {"schema": schema}}}


def _complete(path: str, method: str, operation: dict[str, Any]) -> None:
    operation.setdefault("responses", {})["default"] = PROBLEM_ANSWER
    if path.startswith(f"{BASE}/me"):
        operation["security"] = [{"customerKey": []}]
    elif path == f"{BASE}/decisions/{{decision}}":
        operation["security"] = [{"operatorKey": []}, {"customerKey": []}]
    elif not path.endswith(("/webhook", "/openapi.json")):
        operation["security"] = [{"operatorKey": []}]
    if method == "post" and not path.endswith("/webhook"):
        operation.setdefault("parameters", []).append(IDEMPOTENCY_KEY)
