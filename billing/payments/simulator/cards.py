"""Test cards: what each number does when it is saved and when it is charged."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Literal

from billing.payments.simulator.errors import CardRefused
from billing.payments.simulator.forms import Json

Behaviour = Literal["accepted", "declined", "authenticate", "authenticate_unless_set_up"]


@dataclass(frozen=True, slots=True)
class Card:
    """One test card. `saving` and `charging` tell what the bank answers to either."""

    number: str
    about: str
    brand: str = "visa"
    saving: Behaviour = "accepted"
    charging: Behaviour = "accepted"
    code: str = "card_declined"
    decline_code: str = "generic_decline"
    message: str = "Your card was declined."
    funding: str = "credit"
    disputed: bool = False
    warned: bool = False


_NO_FUNDS = "Your card has insufficient funds."
_EXPIRED = "Your card has expired."
_CARDS = (
    Card("4242424242424242", "always succeeds"),
    Card("4000056655665556", "Visa debit, always succeeds", funding="debit"),
    Card("5555555555554444", "Mastercard, always succeeds", brand="mastercard"),
    Card("378282246310005", "American Express, always succeeds", brand="amex"),
    Card("4000000000000002", "declined at once", saving="declined", charging="declined"),
    Card("4000000000000341", "can be saved, later charges are declined", charging="declined"),
    Card(
        "4000000000009995",
        "declined at once: insufficient funds",
        saving="declined",
        charging="declined",
        decline_code="insufficient_funds",
        message=_NO_FUNDS,
    ),
    Card(
        "4000000000000069",
        "declined at once: expired card",
        saving="declined",
        charging="declined",
        code="expired_card",
        decline_code="expired_card",
        message=_EXPIRED,
    ),
    Card(
        "4000000000000119",
        "declined at once: processing error",
        saving="declined",
        charging="declined",
        code="processing_error",
        decline_code="processing_error",
        message="An error occurred while processing your card. Try again in a little bit.",
    ),
    Card(
        "4000002500003155",
        "3-D Secure when it is saved; later charges succeed",
        saving="authenticate",
        charging="authenticate_unless_set_up",
    ),
    Card(
        "4000002760003184",
        "3-D Secure when it is saved and at every charge",
        saving="authenticate",
        charging="authenticate",
    ),
    Card("4000000000000259", "succeeds, then every charge is disputed", disputed=True),
    Card("4000000000005423", "succeeds, then the bank warns of fraud", warned=True),
    Card(
        "4000000000000127",
        "declined at once: incorrect CVC",
        saving="declined",
        charging="declined",
        code="incorrect_cvc",
        decline_code="incorrect_cvc",
        message="Your card's security code is incorrect.",
    ),
    # The next two have no counterpart at Stripe: they can be saved and fail later.
    Card(
        "4000000000000077",
        "can be saved, later charges are declined: expired card",
        charging="declined",
        code="expired_card",
        decline_code="expired_card",
        message=_EXPIRED,
    ),
    Card(
        "4000000000000085",
        "can be saved, later charges are declined: insufficient funds",
        charging="declined",
        decline_code="insufficient_funds",
        message=_NO_FUNDS,
    ),
)
BY_NUMBER = {card.number: card for card in _CARDS}
BY_TEST_ID = {
    "pm_card_visa": "4242424242424242",
    "pm_card_visa_debit": "4000056655665556",
    "pm_card_mastercard": "5555555555554444",
    "pm_card_amex": "378282246310005",
    "pm_card_chargeDeclined": "4000000000000002",
    "pm_card_visa_chargeDeclined": "4000000000000002",
    "pm_card_chargeDeclinedInsufficientFunds": "4000000000009995",
    "pm_card_visa_chargeDeclinedInsufficientFunds": "4000000000009995",
    "pm_card_chargeDeclinedExpiredCard": "4000000000000069",
    "pm_card_chargeDeclinedProcessingError": "4000000000000119",
    "pm_card_chargeDeclinedIncorrectCvc": "4000000000000127",
    "pm_card_chargeCustomerFail": "4000000000000341",
    "pm_card_authenticationRequired": "4000002760003184",
    "pm_card_authenticationRequiredOnSetup": "4000002500003155",
    "pm_card_createDispute": "4000000000000259",
    "pm_card_createIssuerFraudRecord": "4000000000005423",
    "pm_card_expired": "4000000000000077",
    "pm_card_insufficientFunds": "4000000000000085",
}


def card_of(number: str) -> Card:
    """Return the test card with this number, or refuse as a bank in test mode would."""
    digits = re.sub(r"[\s-]", "", number)
    known = BY_NUMBER.get(digits)
    if known is not None:
        return known
    if not digits.isdigit() or not 12 <= len(digits) <= 19 or not _luhn(digits):
        raise CardRefused({"code": "incorrect_number", "message": "Your card number is incorrect."})
    message = (
        "Your card was declined. Your request was in test mode, but used a non test card. "
        "The page lists the test cards."
    )
    raise CardRefused(
        {"code": "card_declined", "decline_code": "test_mode_live_card", "message": message}
    )


def decline(card: Card) -> Json:
    """Return the card error a bank's refusal of this card becomes."""
    return {
        "code": card.code,
        "decline_code": card.decline_code,
        "doc_url": f"https://docs.stripe.com/error-codes#{card.code.replace('_', '-')}",
        "message": card.message,
    }


def details(card: Card, *, month: int, year: int) -> Json:
    """Return the `card` hash of a payment method."""
    return {
        "brand": card.brand,
        "checks": {
            "address_line1_check": None,
            "address_postal_code_check": None,
            "cvc_check": "pass",
        },
        "country": "US",
        "display_brand": card.brand,
        "exp_month": month,
        "exp_year": year,
        "fingerprint": hashlib.sha256(card.number.encode()).hexdigest()[:16],
        "funding": card.funding,
        "generated_from": None,
        "last4": card.number[-4:],
        "networks": {"available": [card.brand], "preferred": None},
        "regulated_status": "unregulated",
        "three_d_secure_usage": {"supported": True},
        "wallet": None,
    }


def _luhn(digits: str) -> bool:
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if place % 2 else 1)
        total += value - 9 if value > 9 else value
    return total % 10 == 0
