"""What a process has used so far, where the system tells (Linux); 0 elsewhere."""

from __future__ import annotations

import os
from pathlib import Path


def resident_mb(process_id: int) -> float:
    """Memory that is resident, in MB."""
    try:
        lines = Path(f"/proc/{process_id}/status").read_text().splitlines()
    except OSError:
        return 0.0
    found = [int(line.split()[1]) for line in lines if line.startswith("VmRSS:")]
    return found[0] / 1024 if found else 0.0


def cpu_seconds(process_id: int) -> float:
    """CPU time, in the process and in the kernel for it."""
    try:
        parts = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(parts[11]) + int(parts[12])) / os.sysconf("SC_CLK_TCK")
