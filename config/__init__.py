"""Settings, doors and the programs that serve."""

from __future__ import annotations

import os
from pathlib import Path

from config import environment as env

# Where metrics are kept is decided when prometheus_client is imported first, so it is said here,
# before any module of ours can.
if folder := env.METRICS_DIR.read():
    Path(folder).mkdir(parents=True, exist_ok=True)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
