"""A POST with an Idempotency-Key happens once, whatever becomes of the connection."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import pytest
from django.db import connection
from django.test import override_settings
from django.urls import include, path
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.idempotency import Claim, IdempotencyKeyInUse, IdempotencyKeyReused, claim
from accounts.api.views import ManagementView
from accounts.models import ApiKey, Customer, IdempotentRequest
from accounts.operations.customers import create_customer
from tests.factories.accounts import (
    NOW,
    Api,
    a_customer,
    an_operator_key,
    operator,
)

ACME = {"name": "Acme"}
_failures: list[str] = []


class Fragile(ManagementView):
    """Creates a customer, then fails as many times as it is told."""

    scopes: ClassVar[dict[str, str]] = {"POST": "admin"}

    def post(self, request: Request) -> Response:
        """Create, then perhaps fail."""
        create_customer(name="Fragile", actor=self.actor, now=self.now)
        if _failures:
            how = _failures.pop()
            if how == "raise":
                raise RuntimeError("a secret of ours")
            return Response({"said": how}, status=int(how))
        return Response({"said": "fine"}, status=201)


class Loose(Fragile):
    """The same without the one transaction."""

    one_transaction = False


urlpatterns = [
    path("api/v1/fragile", Fragile.as_view()),
    path("api/v1/loose", Loose.as_view()),
    path("", include("config.urls")),
]


@pytest.fixture
def api(db: None) -> Api:
    _failures.clear()
    return operator()


def test_a_repeat_answers_as_the_first_byte_for_byte(api: Api) -> None:
    first = api.post("customers", ACME, Idempotency_Key="a")
    again = api.post("customers", ACME, Idempotency_Key="a")
    assert "Farebox-Replayed" not in first.headers
    assert again["Farebox-Replayed"] == "true"
    assert again["Content-Type"] == first["Content-Type"] == "application/json"
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert Customer.objects.count() == 1


def test_keys_shown_once_are_shown_to_a_repeat(api: Api) -> None:
    body = {"customer": a_customer().public_id, "name": "x"}
    first, again = (api.post("api-keys", body, Idempotency_Key="a").json() for _ in range(2))
    assert first["key"] == again["key"]
    assert ApiKey.objects.count() == 1


def test_refusals_are_kept_too(api: Api) -> None:
    first = api.post("customers", {}, Idempotency_Key="a")
    again = api.post("customers", {}, Idempotency_Key="a")
    assert (again.status_code, again.content) == (422, first.content)
    assert again["Farebox-Replayed"] == "true"
    assert again["Content-Type"] == "application/problem+json"


def test_another_body_or_path_is_refused(api: Api) -> None:
    api.post("customers", ACME, Idempotency_Key="a")
    for address, body in (
        ("customers", {"name": "B"}),
        ("gateways", ACME),
        ("customers?x=1", ACME),
    ):
        answer = api.post(address, body, Idempotency_Key="a")
        assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")
    assert Customer.objects.count() == 1


def test_callers_do_not_share_keys(api: Api) -> None:
    api.post("customers", ACME, Idempotency_Key="a")
    other = operator().post("customers", ACME, Idempotency_Key="a")
    assert other.status_code == 201
    assert "Farebox-Replayed" not in other.headers
    assert Customer.objects.count() == 2


@pytest.mark.parametrize("key", ["", "a" * 256, "ä", "a\tb"])
def test_odd_keys_are_refused(api: Api, key: str) -> None:
    answer = api.post("customers", ACME, Idempotency_Key=key)
    assert (answer.status_code, answer.json()["param"]) == (422, "Idempotency-Key")
    assert not Customer.objects.exists()


def test_other_methods_know_no_idempotency_keys(api: Api) -> None:
    customer = a_customer()
    for name in ("A", "B"):
        answer = api.call(
            "PATCH", f"customers/{customer.public_id}", {"name": name}, Idempotency_Key="a"
        )
        assert answer.json()["name"] == name
    assert not IdempotentRequest.objects.exists()


@override_settings(ROOT_URLCONF=__name__)
@pytest.mark.parametrize("where", ["fragile", "loose"])
def test_a_failure_is_not_kept_and_says_nothing(api: Api, where: str) -> None:
    _failures.append("raise")
    failed = api.post(where, Idempotency_Key="a")
    assert (failed.status_code, failed.json()["code"]) == (500, "internal_error")
    assert "secret" not in failed.content.decode()
    assert Customer.objects.count() == (0 if where == "fragile" else 1)
    assert not IdempotentRequest.objects.exists()
    fine = api.post(where, Idempotency_Key="a")
    assert fine.status_code == 201
    assert api.post(where, Idempotency_Key="a").content == fine.content


@override_settings(ROOT_URLCONF=__name__)
def test_an_answer_of_400_and_above_undoes_the_work(api: Api) -> None:
    _failures.append("409")
    assert api.post("fragile", Idempotency_Key="a").status_code == 409
    assert not Customer.objects.exists()
    assert api.post("fragile", Idempotency_Key="a")["Farebox-Replayed"] == "true"
    _failures.append("503")
    assert api.post("fragile", Idempotency_Key="b").status_code == 503
    assert IdempotentRequest.objects.count() == 1


@pytest.mark.django_db
def test_a_claim_is_taken_over_after_a_minute_and_only_then() -> None:
    given: dict[str, Any] = {"caller": "opk_x", "key": "a", "fingerprint": b"1"}
    first = claim(**given, now=NOW)
    assert isinstance(first, Claim)
    with pytest.raises(IdempotencyKeyInUse):
        claim(**given, now=NOW + timedelta(seconds=59))
    with pytest.raises(IdempotencyKeyReused):
        claim(caller="opk_x", key="a", fingerprint=b"2", now=NOW + timedelta(seconds=90))
    second = claim(**given, now=NOW + timedelta(seconds=60))
    assert isinstance(second, Claim)
    # The first was not dead, only slow: its work is refused and rolled back.
    with pytest.raises(IdempotencyKeyInUse):
        first.keep(status=201, text="{}")
    first.keep_refusal(status=422, text="{}")
    first.forget()
    second.keep(status=201, text='{"a":1}')
    row = IdempotentRequest.objects.get()
    assert (row.status, row.body) == (201, '{"a":1}')


def test_a_request_under_way_is_in_use(api: Api) -> None:
    api.post("customers", ACME, Idempotency_Key="a")
    now = datetime.now(UTC)
    IdempotentRequest.objects.update(status=None, body=None, created_at=now)
    answer = api.post("customers", ACME, Idempotency_Key="a")
    assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_key_in_use")
    assert Customer.objects.count() == 1
    IdempotentRequest.objects.update(created_at=now - timedelta(seconds=61))
    assert api.post("customers", ACME, Idempotency_Key="a").status_code == 201


@pytest.mark.django_db(transaction=True)
def test_the_same_request_many_times_at_once_happens_once() -> None:
    _, made = an_operator_key()
    answers: list[tuple[int, bytes]] = []
    start = threading.Barrier(6)

    def ask() -> None:
        try:
            start.wait(10)
            answer = Api(made).post("customers", ACME, Idempotency_Key="a")
            answers.append((answer.status_code, answer.content))
        finally:
            connection.close()

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(answers) == 6
    assert Customer.objects.count() == 1
    assert {status for status, _ in answers} <= {201, 409}
    assert len({content for status, content in answers if status == 201}) == 1
