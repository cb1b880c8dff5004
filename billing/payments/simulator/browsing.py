"""Clicking through the simulator's pages without a browser."""

from __future__ import annotations

import re
from html import unescape
from urllib.error import HTTPError
from urllib.parse import urlencode, urljoin
from urllib.request import HTTPRedirectHandler, build_opener


def enter_card(
    page_url: str, number: str = "4242424242424242", *, authenticate: bool = True, **fields: str
) -> str:
    """Fill in the card form of a Checkout, portal or invoice page; return where it leads.

    Follows 3-D Secure with `authenticate`. Raises `ValueError` with the page's message when the
    card is refused.
    """
    form = {"card_number": number, "expiry": "12 / 34", "cvc": "123", **fields}
    location = _post(page_url, form)
    if "/authenticate?payment_method=" in location:
        action, _, method = location.partition("?payment_method=")
        outcome = "complete" if authenticate else "fail"
        location = _post(action, {"payment_method": method, "outcome": outcome})
    return location


class _Stay(HTTPRedirectHandler):
    """Report redirects instead of following them."""

    def redirect_request(self, *args: object, **kwargs: object) -> None:
        """Follow nothing."""


def _post(url: str, form: dict[str, str]) -> str:
    try:
        build_opener(_Stay).open(url, urlencode(form).encode(), timeout=10)
    except HTTPError as answer:
        if answer.code == 303:
            return urljoin(url, str(answer.headers["Location"]))
        message = re.search(r'role="alert">([^<]*)<', answer.read().decode())
        raise ValueError(unescape(message[1]) if message else f"HTTP {answer.code}") from None
    raise ValueError("the page did not lead anywhere")
