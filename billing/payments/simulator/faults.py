"""Faults that can be put in the way of the next calls."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

from billing.payments.simulator.errors import bad_request
from billing.payments.simulator.forms import Json

KINDS = (
    "drop_before",
    "drop_after",
    "409",
    "429",
    "500",
    "500_replay",
    "500_replay_after",
    "slow",
    "wrong_total",
)


@dataclass(slots=True)
class Fault:
    """What happens to the next `times` calls that match."""

    method: str
    path: str
    kind: str
    times: int
    seconds: float


class Faults:
    """The faults that are still to happen, first come first served."""

    def __init__(self) -> None:
        self._waiting: list[Fault] = []

    def add(self, wish: Json) -> None:
        """Arm {"fault", "method", "path", "times", "seconds"}; all but the first optional."""
        kind = str(wish.get("fault", ""))
        if kind not in KINDS:
            raise bad_request(f"fault must be one of {', '.join(KINDS)}", param="fault")
        self._waiting.append(
            Fault(
                method=str(wish.get("method") or "*").upper(),
                path=str(wish.get("path") or "*"),
                kind=kind,
                times=int(wish.get("times") or 1),
                seconds=float(wish.get("seconds") or 1),
            )
        )

    def take(self, method: str, path: str) -> Fault | None:
        """Return the fault that meets this call, and count it."""
        for fault in self._waiting:
            if fnmatchcase(method, fault.method) and fnmatchcase(path, fault.path):
                fault.times -= 1
                if fault.times <= 0:
                    self._waiting.remove(fault)
                return fault
        return None

    def clear(self) -> None:
        """Disarm every fault."""
        self._waiting.clear()

    def waiting(self) -> list[Json]:
        """Return what is still armed."""
        return [
            {"method": f.method, "path": f.path, "fault": f.kind, "times": f.times}
            for f in self._waiting
        ]
