"""The emulated GPU of tests/cuda is out of the way everywhere else: "auto" would choose it."""

import sys


def test_no_other_test_finds_the_emulated_gpu():
    found = [name for name in sys.modules if name.partition(".")[0] in ("cupy", "cupyx")]
    assert not any(getattr(sys.modules[name], "__file__", None) is None for name in found)
