"""What all tests share: one BLAS thread, draws that repeat, the folder of data files, the rule about skips."""

import os

# One thread per process: the tests run in several, and sums come out in one order. NumPy reads it when it loads.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from pathlib import Path

import pytest
from allowed_skips import SkipRule, on_ci
from hypothesis import HealthCheck, settings

settings.register_profile(
    "deepbabysit", derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("deepbabysit")


def pytest_configure(config: pytest.Config) -> None:
    if on_ci():
        config.pluginmanager.register(SkipRule(), "deepbabysit-skip-rule")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder with mnist, heart and the other data files that the repository does not carry."""
    named = os.environ.get("DEEPBABYSIT_DATA")
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no data files: {folder} is not a folder; set DEEPBABYSIT_DATA")
    return folder


@pytest.fixture
def compiled(monkeypatch):
    """A CPU whose compiled kernels take arrays of every size."""
    pytest.importorskip("numba")
    from deepbabysit.runtime.device import Device
    from deepbabysit_numpy import open_backend
    from deepbabysit_numpy.compiled import sizes

    for name in sizes.LEAST:
        monkeypatch.setitem(sizes.LEAST, name, 0)
    return Device("cpu", open_backend())
