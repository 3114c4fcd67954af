"""What `import deepbabysit` adds to `import numpy`: fresh processes, in turns, median of the differences.

    pytest benchmarks/test_startup.py -s
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

_PAIRS = 15


def _seconds(code: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - start


def measure(code: str) -> float:
    """Return the median of the seconds that `code` takes above ``import numpy``."""
    _seconds("import numpy"), _seconds(code)
    return statistics.median(_seconds(code) - _seconds("import numpy") for _ in range(_PAIRS))


def test_import() -> None:
    for label, code in (
        ("import deepbabysit", "import numpy, deepbabysit"),
        ("first tensor", "import numpy, deepbabysit as db; db.tensor([1.0]) + 1"),
        ("first model", "import numpy, deepbabysit as db; db.Sequential([db.layers.Dense(2, input_shape=3)])"),
    ):
        print(f"{label:20} {measure(code) * 1e3:7.1f} ms above import numpy")
