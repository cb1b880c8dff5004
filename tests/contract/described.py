"""Answers held against docs/openapi.json, as schemathesis reads it."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import requests
from django.test import Client

if TYPE_CHECKING:
    from schemathesis import Case
    from schemathesis.core.transport import Response

DESCRIPTION: Final = json.loads(
    (Path(__file__).resolve().parents[2] / "docs" / "openapi.json").read_text()
)
PATHS: Final[dict[str, dict[str, Any]]] = DESCRIPTION["paths"]


@functools.cache
def operations() -> dict[str, Any]:
    """Each operation as schemathesis reads it, which is loaded by who asks: it takes seconds.

    Answers may have no member that is not described, except problems, whose codes have their own.
    """
    import schemathesis
    from schemathesis.core.result import Ok

    strict = json.loads(json.dumps(DESCRIPTION))
    for name, shape in strict["components"]["schemas"].items():
        if "properties" in shape and not name.endswith("Request") and name != "Problem":
            shape.setdefault("additionalProperties", False)
    found = schemathesis.openapi.from_dict(strict).get_all_operations()
    return {each.ok().label: each.ok() for each in found if isinstance(each, Ok)}


def ask(case: Case[Any], *, key: str) -> Response:
    """What Django answers to a request with that key, which must be as described."""
    response = _as_schemathesis_wants_it(*_answered(case, key=key))
    assert response.status_code < 500, (response.content, case.as_curl_command())
    judge(case, response)
    return response


def judge(case: Case[Any], response: Response) -> None:
    """Raise where status, media type, headers or body are not as described."""
    from schemathesis.specs.openapi import checks

    if response.status_code < 400:  # the default is a problem
        assert str(response.status_code) in case.operation.responses.status_codes
    case.validate_response(
        response,
        checks=[
            checks.status_code_conformance,
            checks.content_type_conformance,
            checks.response_headers_conformance,
            checks.response_schema_conformance,
        ],
    )


def asked(method: str, path: str, *, key: str, **more: Any) -> Any:
    """What Django answers, whatever it is."""
    headers = more.pop("headers", {}) | {"authorization": f"Bearer {key}"}
    client = Client(raise_request_exception=False)
    return client.generic(method, path, headers=headers, **more)


def _answered(case: Case[Any], *, key: str) -> tuple[requests.PreparedRequest, Any]:
    sent = case.as_transport_kwargs(base_url="http://testserver")
    prepared = requests.Request(**sent).prepare()
    body: Any = prepared.body or b""
    headers = {name.lower(): str(value) for name, value in prepared.headers.items()}
    kind = headers.pop("content-type", "application/json")
    headers.pop("content-length", None)
    answer = asked(
        str(prepared.method),
        str(prepared.url).removeprefix("http://testserver"),
        key=key,
        data=body if isinstance(body, bytes) else body.encode(),
        content_type=kind,
        headers=headers,
    )
    return prepared, answer


def _as_schemathesis_wants_it(prepared: requests.PreparedRequest, answer: Any) -> Response:
    from schemathesis.core.transport import Response

    said = answer.getvalue()
    headers = {name.lower(): [value] for name, value in answer.items()}
    return Response(answer.status_code, headers, said, prepared, elapsed=0.0, verify=False)
