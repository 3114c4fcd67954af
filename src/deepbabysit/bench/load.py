"""What else the machine is doing while it is measured."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, final

BUSY_AVERAGE = 0.7
BUSY_OTHERS = 0.25


def average() -> float:
    """Return the load of the machine over the last minute (0 where the system does not say)."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


@final
class Meter:
    """Compares the time that all processors were busy with what this process and its ended children used of it."""

    def __init__(self) -> None:
        self.before = average()
        self._start, self._busy, self._own = time.perf_counter(), _busy(), _own()

    def read(self) -> dict[str, Any]:
        """Return the load before the run and the processors that others kept busy since; call it after the run."""
        elapsed = time.perf_counter() - self._start
        others = max(0.0, (_busy() - self._busy) - (_own() - self._own)) / max(elapsed, 1e-9) if self._busy else 0.0
        under = self.before >= BUSY_AVERAGE or others >= BUSY_OTHERS
        return {"before": round(self.before, 2), "others": round(others, 2), "seconds": elapsed, "under_load": under}


def _busy() -> float:
    """Return the seconds that all processors have worked, time taken by the host included."""
    file = Path("/proc/stat")
    if not file.is_file():
        return 0.0
    user, nice, system, _, _, interrupt, soft, steal, *_ = map(int, file.read_text(encoding="ascii").split()[1:11])
    return (user + nice + system + interrupt + soft + steal) / float(os.sysconf("SC_CLK_TCK"))


def _own() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
