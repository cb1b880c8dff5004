"""Requests and answers held against Stripe's published schema.

The schema is Stripe's OpenAPI description of version 2026-08-26.dahlia, read from
`../shared/stripe/spec3.json.xz` beside the repository; where it is absent, `schema_available()`
is False and tests skip. We speak 2026-10-28.endive; what differs stands in the tables below.
"""

from __future__ import annotations

import json
import lzma
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import stripe
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

Json = dict[str, Any]

SPEC = Path(__file__).resolve().parents[2].parent / "shared" / "stripe" / "spec3.json.xz"
SKIP_REASON = f"Stripe's published schema is not at {SPEC}"
_URI = "urn:stripe-openapi"
# Parameters that our version has and the published schema does not know yet.
_NEWER_PARAMETERS = {
    "/v1/checkout/sessions": {"allowed_payment_method_types"},
    "/v1/payment_intents": {"allowed_payment_method_types"},
    "/v1/setup_intents": {"allowed_payment_method_types"},
    "/v1/billing_portal/sessions": {"after_expiration"},
    "/v1/products": {"tax_details"},
    "/v1/customers": {"validate"},
}
# Parameters that our version refuses although the published schema still knows them.
_REMOVED_PARAMETERS = {
    path: {"payment_method_types"}
    for path in ("/v1/checkout/sessions", "/v1/payment_intents", "/v1/setup_intents")
}
# Fields of an answer that older schemas kept out of the object or that lists add to it.
_EXTRA_FIELDS = {"webhook_endpoint": {"secret"}}


class SchemaMismatch(AssertionError):
    """A request or an answer that Stripe's schema does not allow."""


def schema_available() -> bool:
    """Tell whether the published schema is there."""
    return SPEC.exists()


def check_request(method: str, path: str, params: Mapping[str, Any]) -> None:
    """Raise `SchemaMismatch` unless Stripe would accept these parameters.

    `params` are nested; values may be typed or the strings a form carries.
    """
    template, operation = _operation(method, path)
    sent = dict(params)
    for name in _REMOVED_PARAMETERS.get(template, set()) & sent.keys():
        raise SchemaMismatch(f"{method} {path}: {name} was removed in our API version")
    for name in _NEWER_PARAMETERS.get(template, set()):
        sent.pop(name, None)
    schema = _request_schema(method.upper(), operation)
    _check(_typed(sent, schema), schema, f"{method} {path}")


def check_response(method: str, path: str, status: int, body: Json) -> None:
    """Raise `SchemaMismatch` unless Stripe could have answered this."""
    _template, operation = _operation(method, path)
    answers = operation["responses"]
    content = answers.get(str(status), answers["default"])["content"]
    schema = content["application/json"]["schema"]
    where = f"{method} {path} -> {status}"
    _check(body, schema, where)
    if status == 200:
        _check_fields(body, where)


def check_object(obj: Json) -> None:
    """Raise `SchemaMismatch` unless `obj` is a whole object of the kind it says it is."""
    kind = obj["object"]
    name = "deleted_" + kind if obj.get("deleted") else kind
    if name not in _document()["components"]["schemas"]:
        raise SchemaMismatch(f"unknown kind of object: {kind}")
    where = f"{kind} {obj.get('id', '')}"
    _check(obj, {"$ref": f"{_URI}#/components/schemas/{name}"}, where)
    _check_fields(obj, where)


def parameters(method: str, path: str) -> Json:
    """Return the schemas of the parameters a call takes, by name. Raises `SchemaMismatch`."""
    template, operation = _operation(method, path)
    known = fields_of(_request_schema(method.upper(), operation))
    for name in _REMOVED_PARAMETERS.get(template, set()):
        known.pop(name, None)
    return known


def fields_of(schema: Any) -> Json:
    """Return the fields that a hash, or a list of hashes, may have, by name."""
    fields: Json = dict(schema.get("properties", {}))
    for option in [*schema.get("anyOf", []), schema.get("items", {})]:
        if option:
            fields |= fields_of(option)
    return fields


class SchemaCheckedClient(stripe.HTTPClient):
    """An HTTP client for `StripeClient(http_client=...)` that checks all traffic.

    `seen` lists the (method, path) of every request.
    """

    name = "schema-checked"

    def __init__(self, timeout: float = 20) -> None:
        super().__init__()
        self._inner = stripe.RequestsClient(timeout=timeout)
        self.seen: list[tuple[str, str]] = []

    def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None,
        post_data: Any = None,
        *,
        _usage: list[str] | None = None,
    ) -> tuple[Any, int, Mapping[str, str]]:
        """Send a request that is allowed; return an answer that is possible."""
        target = urlsplit(url)
        verb = method.upper()
        carried = post_data if verb == "POST" else target.query
        check_request(verb, target.path, nested(carried or ""))
        self.seen.append((verb, target.path))
        body, status, answered = self._inner.request(method, url, headers, post_data)
        check_response(verb, target.path, status, json.loads(body))
        return body, status, answered

    def close(self) -> None:
        """Close the connections."""
        self._inner.close()  # type: ignore[no-untyped-call]


def nested(form: str | bytes) -> Json:
    """Decode bracket names into nested dicts of strings; positions stay keys."""
    text = form.decode() if isinstance(form, bytes) else form
    fields: Json = {}
    for name, value in parse_qsl(text, keep_blank_values=True):
        here = fields
        *steps, last = re.findall(r"[^\[\]]+|(?<=\[)(?=\])", name)
        for step in steps:
            here = here.setdefault(step, {})
        here[last or str(len(here))] = value
    return fields


@cache
def _document() -> Json:
    document: Json = json.loads(lzma.decompress(SPEC.read_bytes()))
    _make_json_schema(document)
    return document


def _make_json_schema(node: Any) -> None:
    """Rewrite OpenAPI 3.0's `nullable` as JSON Schema says it, and references whole, in place."""
    if isinstance(node, list):
        for item in node:
            _make_json_schema(item)
        return
    if not isinstance(node, dict):
        return
    for value in node.values():
        _make_json_schema(value)
    if isinstance(node.get("$ref"), str):
        node["$ref"] = _URI + node["$ref"]
    if node.get("nullable") is True:
        del node["nullable"]
        if isinstance(node.get("type"), str):
            node["type"] = [node["type"], "null"]
            if isinstance(node.get("enum"), list):
                node["enum"] = [*node["enum"], None]
        elif "anyOf" in node:
            node["anyOf"] = [*node["anyOf"], {"type": "null"}]


@cache
def _registry() -> Registry[Any]:
    resource: Resource[Any] = Resource.from_contents(_document(), DRAFT202012)
    registry: Registry[Any] = Registry().with_resource(_URI, resource)
    return registry


@cache
def _templates() -> list[tuple[re.Pattern[str], str]]:
    found = []
    # Literal paths first: /v1/invoices/upcoming before /v1/invoices/{invoice}.
    for path in sorted(_document()["paths"], key=lambda path: path.count("{")):
        pattern = re.sub(r"\\{[^/]+?\\}", "[^/]+", re.escape(path))
        found.append((re.compile(pattern), path))
    return found


def _operation(method: str, path: str) -> tuple[str, Json]:
    for pattern, template in _templates():
        operation = _document()["paths"][template].get(method.lower())
        if operation is not None and pattern.fullmatch(path):
            return template, operation
    raise SchemaMismatch(f"Stripe has no {method} {path}")


def _request_schema(method: str, operation: Json) -> Json:
    if method != "GET":
        content = operation["requestBody"]["content"]
        schema: Json = content["application/x-www-form-urlencoded"]["schema"]
        return schema
    query = [p for p in operation.get("parameters", []) if p["in"] == "query"]
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {p["name"]: p["schema"] for p in query},
        "required": [p["name"] for p in query if p.get("required")],
    }


def _typed(value: Any, schema: Json) -> Any:
    """Read a form's strings as the types the schema asks for; leave what does not fit."""
    if "anyOf" in schema:
        for option in schema["anyOf"]:
            read = _typed(value, option)
            if _validator(option).is_valid(read):
                return read
        return value
    match schema.get("type"), value:
        case "integer", str() if re.fullmatch(r"-?\d+", value):
            return int(value)
        case "number", str() if re.fullmatch(r"-?\d+(\.\d+)?", value):
            return float(value)
        case "boolean", "true" | "false":
            return value == "true"
        case "array", dict() if all(key.isdigit() for key in value):
            return [_typed(value[key], schema["items"]) for key in sorted(value, key=int)]
        case "array", list():
            return [_typed(item, schema["items"]) for item in value]
        case "object", dict():
            known = schema.get("properties", {})
            other = schema.get("additionalProperties")
            rest = other if isinstance(other, dict) else {}
            return {name: _typed(item, known.get(name, rest)) for name, item in value.items()}
        case _:
            return value


def _validator(schema: Json) -> Draft202012Validator:
    return Draft202012Validator(schema, registry=_registry())


def _check(value: Any, schema: Json, where: str) -> None:
    errors = sorted(_validator(schema).iter_errors(value), key=lambda error: list(error.path))
    if errors:
        lines = [
            f"  {'.'.join(map(str, error.absolute_path)) or '(whole)'}: {_reason(error)}"
            for error in errors[:10]
        ]
        raise SchemaMismatch(f"{where} does not fit Stripe's schema:\n" + "\n".join(lines))


def _reason(error: Any) -> str:
    deepest = error
    while deepest.context:
        deepest = max(deepest.context, key=lambda inner: len(inner.absolute_path))
    path = ".".join(map(str, deepest.absolute_path))
    return f"{path}: {deepest.message[:300]}"


def _check_fields(node: Any, where: str) -> None:
    """Refuse fields that no version of the schema has: what we must not learn to rely on."""
    if isinstance(node, list):
        for item in node:
            _check_fields(item, where)
        return
    if not isinstance(node, dict):
        return
    kind = node.get("object")
    schema = _document()["components"]["schemas"].get(kind) if isinstance(kind, str) else None
    if schema is not None and not node.get("deleted"):
        known = schema.get("properties", {}).keys() | _EXTRA_FIELDS.get(str(kind), set())
        unknown = node.keys() - known
        if unknown:
            raise SchemaMismatch(f"{where}: {kind} has unknown fields {sorted(unknown)}")
    for name, value in node.items():
        if name != "metadata":
            _check_fields(value, where)
