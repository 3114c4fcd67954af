"""Teams of threads: the same bits however busy they are, forks, failures, one number for everybody."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from deepbabysit.runtime import subnormals, threads
from deepbabysit_numpy.compiled import team
from deepbabysit_numpy.compiled.loading import LISTENERS, Compiled
from deepbabysit_numpy.compiled.team import Team

ROOT = Path(__file__).resolve().parents[1]


class Ready(Compiled):
    """Stands for a compiled function that has run before."""

    __slots__ = ("calls",)

    def __init__(self, function, known=True):
        super().__init__("none", "none")
        self._function = function
        self.calls = []
        if known:
            self._ready.add("f")

    def __call__(self, kind, *arguments):
        self.calls.append((arguments[0], threading.current_thread().name))
        self._function(*arguments)


def fill(part, parts, out):
    out[part * len(out) // parts : (part + 1) * len(out) // parts] += part + 1


def test_every_part_runs_once_and_in_threads_of_its_own():
    found, out = Ready(fill), np.zeros(10)
    crew = Team()
    here = threading.current_thread().name
    for _ in range(3):
        found.calls.clear()
        crew.run(found, "f", 3, out)
        assert {(part, name == here) for part, name in found.calls} == {(0, True), (1, False), (2, False)}
        assert len({name for _, name in found.calls}) == 3
    assert out.tolist() == [3.0] * 3 + [6.0] * 3 + [9.0] * 4


def test_one_part_wakes_nobody():
    found, crew = Ready(fill), Team()
    crew.run(found, "f", 1, np.zeros(3))
    assert not crew._workers


def test_a_function_that_is_not_compiled_yet_runs_in_this_thread_only():
    found, crew = Ready(fill, known=False), Team()
    crew.run(found, "f", 2, np.zeros(3))
    assert [part for part, _ in found.calls] == [0, 1]
    assert {name for _, name in found.calls} == {threading.current_thread().name}


def test_who_comes_while_the_team_is_busy_runs_all_parts():
    crew, out, inner = Team(), np.zeros(4), np.zeros(4)

    def nested(part, parts):
        fill(part, parts, out)
        if part == 0:
            crew.run(Ready(fill), "f", 2, inner)

    crew.run(Ready(nested), "f", 2)
    assert out.tolist() == inner.tolist() == [1.0, 1.0, 2.0, 2.0]


def test_a_failure_comes_back_and_the_team_goes_on():
    crew = Team()

    def fail(part, parts, which):
        if part == which:
            raise ZeroDivisionError(part)

    for which in (0, 1):
        with pytest.raises(ZeroDivisionError):
            crew.run(Ready(fail), "f", 2, which)
    out = np.zeros(2)
    crew.run(Ready(fill), "f", 2, out)
    assert out.tolist() == [1.0, 2.0]


@pytest.mark.skipif(not subnormals.supported(), reason="the processor's mode cannot be set here")
def test_workers_compute_in_the_mode_of_their_caller():
    def look(part, parts, out):
        out[part] = subnormals.in_force()

    crew, out = Team(), [None, None]
    crew.run(Ready(look), "f", 2, out)
    assert out == [False, False]
    with subnormals.flushed():
        crew.run(Ready(look), "f", 2, out)
    assert out == [True, True]
    crew.run(Ready(look), "f", 2, out)
    assert out == [False, False]


def test_a_program_that_is_made_hears_of_all_parts_and_nothing_runs():
    heard, found = [], Ready(fill)

    class Listener:
        team = True

        def shared(self, module, name, parts):
            heard.append((module, name, parts))

    me = threading.get_ident()
    LISTENERS[me] = Listener()
    try:
        assert team.in_program()
        Team().run(found, "f", 2, "out")
    finally:
        del LISTENERS[me]
    assert heard == [("none", "none", [(0, 2, "out"), (1, 2, "out")])]
    assert not found.calls and not team.in_program()


@pytest.mark.skipif(not subnormals.supported(), reason="the processor's mode cannot be set here")
def test_a_worker_does_not_keep_the_mode_in_which_it_was_made():
    def look(part, parts, out):
        out[part] = subnormals.in_force()

    with subnormals.flushed():
        crew, out = Team(), [None, None]
        crew.run(Ready(fill), "f", 2, np.zeros(2))
    for _ in range(3):
        crew.run(Ready(look), "f", 2, out)
        assert out == [False, False]


def test_parts_follow_the_work_and_the_number_of_threads(monkeypatch):
    monkeypatch.setattr(threads, "_CHOSEN", [4])
    assert team.parts(100, 1e9) == 4
    assert team.parts(3, 1e9) == 3
    assert team.parts(100, 2.5e6, least=1e6) == 2
    assert team.parts(100, 10) == team.parts(0, 1e9) == 1
    monkeypatch.setattr(threads, "_CHOSEN", [1])
    assert team.parts(100, 1e9) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_has_a_team_of_its_own():
    out = np.zeros(8)
    team.TEAM.run(Ready(fill), "f", 2, out)
    child = os.fork()
    if not child:
        code = 1
        try:
            found = np.zeros(8)
            crew = Ready(fill)
            team.TEAM.run(crew, "f", 2, found)
            code = int(found.tobytes() != out.tobytes() or len({name for _, name in crew.calls}) != 2)
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


NUMBER = """
import os
from deepbabysit.runtime import threads
first = threads.count()
import deepbabysit as db
db.set_num_threads(3)
print(first, threads.count(), os.environ["OPENBLAS_NUM_THREADS"])
"""


@pytest.mark.parametrize(
    ("variables", "expected"),
    [({}, None), ({"OMP_NUM_THREADS": "1"}, 1), ({"OMP_NUM_THREADS": "5,2"}, 5), ({"OPENBLAS_NUM_THREADS": "2"}, 2),
     ({"OPENBLAS_NUM_THREADS": "2", "OMP_NUM_THREADS": "7"}, 2), ({"OMP_NUM_THREADS": "many"}, None)],
)
def test_the_number_comes_from_the_environment_or_the_processors(variables, expected):
    if expected is None:
        expected = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    kept = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    path = os.pathsep.join((str(ROOT / "src"), str(ROOT / "backends")))
    done = subprocess.run(
        [sys.executable, "-c", NUMBER], env={**kept, **variables, "PYTHONPATH": path}, text=True, check=True,
        capture_output=True,
    )
    assert done.stdout.split() == [str(expected), "3", "3"]


def test_convolutions_take_the_threads_of_blas_and_many_products_give_them_back(monkeypatch):
    from deepbabysit.runtime import blas, threads

    seen = []
    monkeypatch.setattr(blas, "set_threads", lambda n: bool(seen.append(n)) or True)
    monkeypatch.setattr(threads, "count", lambda: 3)
    loan = team.Loan()
    loan.take()
    loan.take()
    assert seen == [1] and loan.held
    for _ in range(team.PATIENCE):
        loan.product()
    loan.take()  # a convolution among them: the count begins anew
    for _ in range(team.PATIENCE):
        loan.product()
    assert seen == [1] and loan.held
    loan.product()
    assert seen == [1, 3] and not loan.held
    loan.take()
    monkeypatch.setattr(threads, "choices", lambda: 99)  # somebody chose a number meanwhile, and BLAS has it
    loan.take()
    assert seen == [1, 3, 1, 1]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="threads cannot be bound to cores here")
def test_workers_stay_off_the_core_of_the_caller():
    from deepbabysit_numpy.compiled import team

    mine = team.Team()
    chosen = mine._choose(1)
    cores = os.sched_getaffinity(0)
    assert len(chosen) == 1
    if len(cores) > 1:
        assert chosen[0].core in cores
    assert mine._choose(1)[0] in mine._workers and len(mine._workers) <= len(cores)
