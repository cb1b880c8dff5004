"""HTML: one plain page frame, the card form, and money and time as people read them."""

from __future__ import annotations

from datetime import UTC, datetime
from html import escape

from billing.payments.simulator.cards import BY_NUMBER
from billing.payments.simulator.forms import Json

_ZERO_DECIMAL = "bif clp djf gnf jpy kmf krw mga pyg rwf ugx vnd vuv xaf xof xpf"
_STYLE = """
:root { color-scheme: light dark; --line: #8884; --accent: #5b4bdb; --bad: #b3261e }
* { box-sizing: border-box }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 44rem; padding: 2rem 1rem }
h1 { font-size: 1.5rem; margin: 0 0 1rem } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem }
label { display: block; font-weight: 600; margin: .75rem 0 .25rem }
input[type=text], input[type=email] { font: inherit; padding: .5rem; width: 100%;
  border: 1px solid var(--line); border-radius: .4rem }
button, .button { font: inherit; display: inline-block; padding: .5rem 1rem; border: 0;
  border-radius: .4rem; background: var(--accent); color: #fff; cursor: pointer;
  text-decoration: none }
button.plain { background: none; border: 1px solid var(--line); color: inherit }
form { margin: 0 } form.inline { display: inline }
.row { display: flex; gap: 1rem } .row > * { flex: 1 }
.actions { margin: 1.25rem 0 } .quiet { color: #777; font-size: .9rem }
.error { border-left: .3rem solid var(--bad); padding: .5rem .75rem; margin: 1rem 0 }
table { border-collapse: collapse; width: 100% }
th, td { border-bottom: 1px solid var(--line); padding: .35rem .5rem; text-align: left;
  vertical-align: top }
td.amount, th.amount { text-align: right; font-variant-numeric: tabular-nums }
.banner { background: #f5c84233; border-radius: .4rem; padding: .25rem .75rem; font-size: .9rem }
"""


def page(title: str, body: str, *, wide: bool = False) -> str:
    """Wrap a body that is already HTML."""
    width = ' style="max-width: 72rem"' if wide else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body{width}>"
        '<p class="banner">Payment simulator: no real cards, no real money.</p>'
        f"<main><h1>{escape(title)}</h1>{body}</main></body></html>"
    )


def card_form(action: str, button: str, *, with_email: bool = False, error: str = "") -> str:
    """Return the form that asks for a card; its fields are named as `read_card` wants them."""
    email = _field("email", "E-mail", "email", "", "email") if with_email else ""
    cards = "".join(
        f"<tr><td><code>{_grouped(card.number)}</code></td><td>{escape(card.about)}</td></tr>"
        for card in BY_NUMBER.values()
    )
    return (
        f"{notice(error)}"
        f'<form method="post" action="{escape(action)}">{email}'
        + _field("card_number", "Card number", "text", "4242 4242 4242 4242", "cc-number")
        + '<div class="row"><div>'
        + _field("expiry", "Expiry (MM / YY)", "text", "12 / 34", "cc-exp")
        + "</div><div>"
        + _field("cvc", "Security code", "text", "123", "cc-csc")
        + "</div></div>"
        + _field("name", "Name on card", "text", "", "cc-name", required=False)
        + f'<p class="actions"><button type="submit">{escape(button)}</button></p></form>'
        f"<details><summary>Test cards</summary><table><tbody>{cards}</tbody></table></details>"
    )


def authentication(action: str, method: str) -> str:
    """Return the page on which the cardholder authenticates, or fails to."""
    hidden = f'<input type="hidden" name="payment_method" value="{escape(method)}">'
    return page(
        "Your bank asks: is it you?",
        "<p>This is where your bank would ask for a code (3-D Secure).</p>"
        f'<form method="post" action="{escape(action)}">{hidden}<p class="actions">'
        '<button name="outcome" value="complete">Complete authentication</button> '
        '<button class="plain" name="outcome" value="fail">Fail authentication</button>'
        "</p></form>",
    )


def notice(error: str) -> str:
    """Return a message that assistive technology announces; nothing for no message."""
    return f'<p class="error" role="alert">{escape(error)}</p>' if error else ""


def money(amount: int, currency: str) -> str:
    """Write minor units the way people read them."""
    if currency in _ZERO_DECIMAL.split():
        return f"{amount:,} {currency.upper()}"
    sign = "-" if amount < 0 else ""
    whole, rest = divmod(abs(amount), 100)
    return f"{sign}{whole:,}.{rest:02d} {currency.upper()}"


def moment(unix: int | None) -> str:
    """Write a time stamp in UTC; nothing for None."""
    if unix is None:
        return ""
    return datetime.fromtimestamp(unix, UTC).strftime("%Y-%m-%d %H:%M UTC")


def card_name(method: Json) -> str:
    """Name a saved card by its brand and last digits."""
    card = method["card"]
    return (
        f"{escape(card['brand'].title())} ending in {escape(card['last4'])}, "
        f"expires {card['exp_month']:02d}/{card['exp_year']}"
    )


def button(action: str, label: str, *, plain: bool = True, **hidden: str) -> str:
    """Return a form that is only a button."""
    kind = ' class="plain"' if plain else ""
    fields = "".join(
        f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">'
        for name, value in hidden.items()
    )
    return (
        f'<form class="inline" method="post" action="{escape(action)}">{fields}'
        f'<button type="submit"{kind}>{escape(label)}</button></form>'
    )


def table(heads: list[str], rows: list[list[str]], *, amounts: tuple[int, ...] = ()) -> str:
    """Return a table of cells that are already HTML; columns in `amounts` align right."""
    if not rows:
        return '<p class="quiet">None yet.</p>'

    def cell(tag: str, place: int, text: str) -> str:
        kind = ' class="amount"' if place in amounts else ""
        scope = ' scope="col"' if tag == "th" else ""
        return f"<{tag}{scope}{kind}>{text}</{tag}>"

    head = "".join(cell("th", place, escape(text)) for place, text in enumerate(heads))
    body = "".join(
        "<tr>" + "".join(cell("td", place, text) for place, text in enumerate(row)) + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _field(
    name: str, label: str, kind: str, value: str, complete: str, *, required: bool = True
) -> str:
    need = " required" if required else ""
    return (
        f'<label for="{name}">{escape(label)}</label><input id="{name}" name="{name}" '
        f'type="{kind}" value="{escape(value)}" autocomplete="{complete}"{need}>'
    )


def _grouped(number: str) -> str:
    return " ".join(number[place : place + 4] for place in range(0, len(number), 4))
