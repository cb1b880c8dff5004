"""What it means that a gateway asks wrongly, and what its operator does about it.

A code stands for whatever is refused with it at /authorize and is no client's doing
(metering/gate/misconfigured.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Advice:
    """`means`: what the gateway did; `mend`: what to do.

    `anybody`: strangers bring it about, too, so that a few of it are no fault of the set-up.
    """

    means: str
    mend: str
    anybody: bool = False


_ENDED: Final = "Make it a new one (POST /gateways/{id}/keys, or here), and give the gateway that."
ADVICE: Final[dict[str, Advice]] = {
    "key_missing": Advice(
        "It sends no key of its own.",
        "Have it set `X-Farebox-Gateway: fb_gw_…` on what it asks. Where no gateway lacks it, "
        "somebody else asks: let only gateways reach /api/v1/authorize.",
        anybody=True,
    ),
    "key_malformed": Advice(
        "What it sends as its own key is none: a character is missing or wrong.",
        "Copy the key anew, and look for quotes or a variable that was not filled in. Where all "
        "gateways are at work, somebody else asks: let only gateways reach /api/v1/authorize.",
        anybody=True,
    ),
    "key_unknown": Advice(
        "Its key was never issued by this installation.",
        "Look whether it asks the right installation, test or production; else issue a key. Where "
        "all gateways are at work, somebody else guesses: let only gateways reach "
        "/api/v1/authorize.",
        anybody=True,
    ),
    "wrong_kind_of_key": Advice(
        "It sends a customer's or an operator's key as its own.",
        "Give it its gateway's key, fb_gw_…. If it was an operator's key, revoke that: it has been "
        "where it should not be.",
        anybody=True,
    ),
    "key_revoked": Advice("Its key was revoked.", _ENDED),
    "key_expired": Advice("The time of its key is over.", _ENDED),
    "route_unknown": Advice(
        "No route of it fits a request that it forwarded.",
        "If your API has the path of the detail, add a route, or mend the one that should fit. If "
        "not, it is a scanner that looks for what is not there: let the gateway answer 404 for "
        "what it does not serve, before it asks.",
        anybody=True,
    ),
    "meter_unknown": Advice(
        "A route, or its X-Farebox-Meter, names a meter or feature that is none.",
        "Mend the name; the detail has the nearest ones. Or define the meter.",
    ),
    "parameter_missing": Advice(
        "The mode needs an id, and none comes.",
        "Have it send an X-Request-Id of its own, never the client's; or choose the mode peek.",
    ),
    "parameter_invalid": Advice(
        "A header or route asks for what cannot be asked.",
        "Mend what the detail names: X-Farebox-Mode is peek, consume or hold, and a feature can "
        "only be peeked at.",
    ),
    "quantity_invalid": Advice(
        "X-Farebox-Quantity, or a route's quantity, is not what the meter takes.",
        "Send a whole number in the meter's unit, and none for a feature.",
    ),
    "price_unknown": Advice(
        "The meter counts cost, and its price table has no price for this.",
        "Add what the detail names to the price table, in a new version.",
    ),
    "id_reused": Advice(
        "It sent the same X-Request-Id for two different requests.",
        "Have it make the id itself, anew for each request, and drop the one that clients send.",
    ),
}
_OTHER: Final = Advice(
    "It asks in a way that is not taken.", "Mend what the detail says; the page of the fault helps."
)


def advice_on(code: str) -> Advice:
    """What to do about a fault, whatever its code."""
    return ADVICE.get(code, _OTHER)
