"""What the gate shows to Prometheus; decisions are counted in metering.gate.tally."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

_TIME = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
ANSWERS = Counter("farebox_gate_answers", "Answers of the gate", ["path", "status"])
ANSWER_TIME = Histogram(
    "farebox_gate_answer_seconds", "From the request's last byte to the answer", buckets=_TIME
)
DECISIONS = Counter(
    "farebox_gate_decisions",
    "Calls decided, by mode (or what is done with a hold) and code (allowed, or the problem's)",
    ["mode", "code"],
)
EVENTS = Counter("farebox_gate_events", "Reported events, by what became of them", ["outcome"])
REPLAYS = Counter("farebox_gate_replays", "Calls whose id was answered before")
TRANSACTION = Histogram(
    "farebox_gate_round_seconds", "Fill, decide and write of one batch", buckets=_TIME
)
WRITE = Histogram(
    "farebox_gate_transaction_seconds", "The write of one batch, its commit included", buckets=_TIME
)
QUEUE_WAIT = Histogram(
    "farebox_gate_queue_seconds", "How long the first call of a batch had waited", buckets=_TIME
)
LOCK_WAIT = Histogram(
    "farebox_gate_lock_seconds",
    "Until a customer's row was locked, for calls that had lost too often",
    buckets=_TIME,
)
BATCH = Histogram(
    "farebox_gate_batch_calls",
    "Calls of one batch",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512),
)
LOST = Counter("farebox_gate_lost", "Calls decided again because their customer had changed")
SPLITS = Counter("farebox_gate_splits", "Batches that the database refused and that were split")
QUARANTINED = Counter("farebox_gate_quarantined", "Refused events that were kept")
UNQUARANTINED = Counter(
    "farebox_gate_unquarantined",
    "Refused events that were to be kept and were not: no room (events, bytes), large, or a fault",
    ["why"],
)
MISCONFIGURED = Counter(
    "farebox_gate_misconfigured", "Forwarded requests refused for their gateway's set-up", ["code"]
)
OVERLOADED = Counter("farebox_gate_overloaded", "Requests refused because too many calls waited")
EXPIRED = Counter("farebox_gate_expired_holds", "Holds given back because their time was over")
