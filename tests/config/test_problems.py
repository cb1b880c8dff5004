"""The one table, and the answers made of it."""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
from typing import Any

import pytest
from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.http import Http404
from django.test import Client
from rest_framework import exceptions as rest

import accounts
from accounts.domain.problem_types import PROBLEM_TYPES
from config.problems import PROBLEMS, answer_problem, code_of, problem_body, problem_response
from tests.factories.accounts import Api


def test_every_error_in_the_table_has_a_type() -> None:
    assert set(PROBLEMS.values()) <= set(PROBLEM_TYPES)


@pytest.mark.parametrize("room", ["operations", "domain", "api"])
def test_every_error_of_accounts_is_in_the_table(room: str) -> None:
    package = importlib.import_module(f"{accounts.__name__}.{room}")
    for found in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        module = importlib.import_module(found.name)
        for _, each in inspect.getmembers(module, inspect.isclass):
            if issubclass(each, Exception) and each.__module__ == found.name:
                assert each in PROBLEMS, f"{found.name}.{each.__name__} has no problem"


@pytest.mark.parametrize("code", list(PROBLEM_TYPES))
def test_a_body_is_rfc_9457(code: str) -> None:
    body = problem_body(code, instance="/api/v1/x")
    assert body["type"] == f"{settings.BASE_URL}/docs/problems/{code}"
    assert body["title"]
    assert body["detail"]
    assert body["instance"] == "/api/v1/x"
    assert body["code"] == code
    response = problem_response(code)
    assert response.status_code == body["status"]
    assert response["Content-Type"] == "application/problem+json"
    assert ("WWW-Authenticate" in response.headers) == (body["status"] == 401)


class _Odd(Exception):
    param = "entitlements[0]"
    members = {"retry": "never"}


def test_errors_pass_on_their_param_and_members(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROBLEMS, _Odd, "conflict")
    data = answer_problem(_Odd("It is so."), {}).data
    assert isinstance(data, dict)
    assert (data["detail"], data["param"], data["retry"]) == (
        "It is so.",
        "entitlements[0]",
        "never",
    )


def test_the_nearest_class_decides() -> None:
    class Nearer(Http404):
        pass

    assert code_of(Nearer()) == "not_found"
    assert code_of(RuntimeError()) is None


@pytest.mark.parametrize(
    ("error", "status", "detail"),
    [
        (RuntimeError("password=hunter2"), 500, "Something is wrong on our side; it was logged."),
        (Http404("No Customer matches the given query."), 404, PROBLEM_TYPES["not_found"].when),
        (Http404("There is no such plan."), 404, "There is no such plan."),
        (PermissionDenied(), 403, PROBLEM_TYPES["not_signed_in"].when),
        (rest.Throttled(), 429, "Request was throttled."),
        (rest.NotAcceptable("None."), 406, "None."),
    ],
)
def test_what_is_said_and_what_is_not(error: Exception, status: int, detail: str) -> None:
    response = answer_problem(error, {})
    assert response.status_code == status
    assert isinstance(response.data, dict)
    assert response.data["detail"] == detail


VALIDATIONS: list[tuple[Any, str | None, str]] = [
    ({"name": ["x"]}, "name", "parameter_invalid"),
    ({"name": [rest.ErrorDetail("x", code="required")]}, "name", "parameter_missing"),
    ({"a": {"b": [{}, {"c": ["x"]}]}}, "a.b[1].c", "parameter_invalid"),
    ({"a": {0: ["x"], 1: ["y"]}}, "a[0]", "parameter_invalid"),
    ({"a": {"non_field_errors": ["x"]}}, "a", "parameter_invalid"),
    ({"non_field_errors": ["x"]}, None, "parameter_invalid"),
    ({"m": [rest.ErrorDetail("x", code="meter_unknown")]}, "m", "meter_unknown"),
    (["x"], None, "parameter_invalid"),
    ({}, None, "parameter_invalid"),
    (
        {"entitlements": [{"price": {"tiers": ["x"]}}]},
        "entitlements[0].price.tiers",
        "parameter_invalid",
    ),
]


@pytest.mark.parametrize(("detail", "param", "code"), VALIDATIONS)
def test_a_validation_names_the_place(detail: Any, param: str | None, code: str) -> None:
    data = answer_problem(rest.ValidationError(detail), {}).data
    assert isinstance(data, dict)
    assert (data.get("param"), data["code"]) == (param, code)


def test_many_errors_are_cut() -> None:
    error = rest.ValidationError({str(i): ["x"] for i in range(100)})
    data = answer_problem(error, {}).data
    assert isinstance(data, dict)
    assert len(data["errors"]) == 20


@pytest.mark.django_db
def test_unknown_addresses_are_problems_under_api_and_pages_elsewhere(client: Client) -> None:
    answer = client.get("/api/v1/nothing/here")
    assert answer.status_code == 404
    assert json.loads(answer.content)["code"] == "not_found"
    page = client.get("/nothing/here")
    assert page.status_code == 404
    assert "No such page" in page.content.decode()
    assert "text/html" in page["Content-Type"]


@pytest.mark.django_db
def test_other_methods_are_405_to_those_who_have_a_key() -> None:
    from tests.factories.accounts import operator

    assert Api().call("DELETE", "customers").json()["code"] == "key_missing"
    for method in ("DELETE", "OPTIONS", "PUT", "TRACE"):
        answer = operator().call(method, "customers")
        assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
        assert "GET" in answer["Allow"]
    assert operator().call("HEAD", "customers").status_code == 200
