"""Items of other systems as nobody should write them."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

scalars = (
    st.none() | st.booleans() | st.integers() | st.text(max_size=8)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["-", "", "12", "1.5", "2026-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00"])
)  # fmt: skip
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@st.composite
def altered(draw: st.DrawFn, items: list[dict[str, Any]]) -> dict[str, Any]:
    """One of the items, of which some members, and members of members, are gone or anything."""
    item = dict(draw(st.sampled_from(items)))
    for name in draw(st.lists(st.sampled_from(sorted(item)), max_size=4)):
        if draw(st.booleans()):
            item[name] = draw(anything)
        else:
            item.pop(name, None)
    for name, value in list(item.items()):
        if isinstance(value, dict) and value and draw(st.booleans()):
            inner = draw(st.sampled_from(sorted(value)))
            item[name] = value | {inner: draw(anything)}
    return item
