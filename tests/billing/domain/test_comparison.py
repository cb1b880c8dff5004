from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from billing.domain.comparison import (
    Difference,
    InvoiceImage,
    LineImage,
    compare_invoice,
    invoice_digest,
    missing_lines,
)

LINES = (LineImage("line_1", 2000), LineImage("line_2", 150))
OURS = InvoiceImage(2150, "usd", LINES, "d1")


def test_equal_invoices_do_not_differ() -> None:
    theirs = replace(OURS, lines=tuple(reversed(LINES)))
    assert compare_invoice(OURS, theirs=theirs) == []
    assert missing_lines(OURS, theirs=theirs) == ()


def test_heads_are_compared() -> None:
    theirs = replace(OURS, total=2151, currency="eur", digest=None)
    assert compare_invoice(OURS, theirs=theirs) == [
        Difference("total", "2150", "2151"),
        Difference("currency", "usd", "eur"),
        Difference("digest", "d1", None),
    ]


def test_lines_are_compared_even_where_the_total_is_right() -> None:
    swapped = (LineImage("line_1", 1999), LineImage("line_2", 151))
    assert compare_invoice(OURS, theirs=replace(OURS, lines=swapped)) == [
        Difference("line line_1", "2000", "1999"),
        Difference("line line_2", "150", "151"),
    ]


def test_missing_doubled_and_foreign_lines_are_differences() -> None:
    theirs = replace(OURS, lines=(LINES[0], LINES[0], LineImage(None, 7), LineImage(None, -7)))
    assert compare_invoice(OURS, theirs=theirs) == [
        Difference("line (without id)", None, "-7, 7"),
        Difference("line line_1", "2000", "2000, 2000"),
        Difference("line line_2", "150", None),
    ]
    assert missing_lines(OURS, theirs=theirs) == ("line_2",)


images = st.lists(
    st.builds(LineImage, st.sampled_from(["line_1", "line_2", "line_3"]), st.integers(-9, 9)),
    max_size=4,
).map(tuple)


@given(images, images)
def test_the_digest_tells_the_same_difference_as_the_lines(
    one: tuple[LineImage, ...], other: tuple[LineImage, ...]
) -> None:
    digests = [invoice_digest(10, currency="usd", lines=lines) for lines in (one, other)]
    found = compare_invoice(
        InvoiceImage(10, "usd", one, None), theirs=InvoiceImage(10, "usd", other, None)
    )
    assert (digests[0] == digests[1]) == (found == [])


def test_the_digest_covers_total_and_currency() -> None:
    digest = invoice_digest(10, currency="usd", lines=LINES)
    assert digest != invoice_digest(11, currency="usd", lines=LINES)
    assert digest != invoice_digest(10, currency="eur", lines=LINES)
    assert len(digest) == 64
