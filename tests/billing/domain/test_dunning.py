from datetime import UTC, datetime

from billing.domain.dunning import grace_ends_at


def test_grace_is_counted_from_the_first_failure() -> None:
    failed_at = datetime(2026, 4, 1, 9, tzinfo=UTC)
    assert grace_ends_at(failed_at, grace_days=3) == datetime(2026, 4, 4, 9, tzinfo=UTC)
    assert grace_ends_at(failed_at, grace_days=0) == failed_at
