"""What the gate shows to Prometheus."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

_TIME = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
ANSWERS = Counter("farebox_gate_answers", "Answers of the gate", ["path", "status"])
ANSWER_TIME = Histogram(
    "farebox_gate_answer_seconds", "From the request's last byte to the answer", buckets=_TIME
)
TRANSACTION = Histogram(
    "farebox_gate_round_seconds", "Fill, decide and write of one batch", buckets=_TIME
)
BATCH = Histogram(
    "farebox_gate_batch_calls",
    "Calls of one batch",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512),
)
LOST = Counter("farebox_gate_lost", "Calls decided again because their customer had changed")
SPLITS = Counter("farebox_gate_splits", "Batches that the database refused and that were split")
OVERLOADED = Counter("farebox_gate_overloaded", "Calls refused because too many waited")
EXPIRED = Counter("farebox_gate_expired_holds", "Holds given back because their time was over")
