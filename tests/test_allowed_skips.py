"""The rule about skips, run by the conftest.py of this folder on small projects."""

import os
from pathlib import Path

import pytest
from allowed_skips import ALLOWED, is_allowed

MISSING = """
    import pytest

    def test_one():
        pytest.importorskip("a_module_nobody_has")
"""
MISSING_AT_THE_TOP = """
    import pytest

    pytest.importorskip("a_module_nobody_has")

    def test_one():
        pass
"""
ALLOWED_SKIPS = """
    import pytest

    @pytest.mark.skip(reason="could not import 'torch': No module named 'torch'")
    def test_peer():
        pass

    @pytest.mark.skipif(True, reason="no CUDA device")
    def test_gpu():
        pass

    def test_data(data_dir):
        pass

    @pytest.mark.xfail(strict=True)
    def test_expected():
        assert False
"""


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    pytester.makeini("[pytest]")  # otherwise settings are looked for in the folders above
    pytester.makeconftest(Path(__file__).with_name("conftest.py").read_text(encoding="utf-8"))
    monkeypatch.setenv("DEEPBABYSIT_DATA", str(pytester.path / "absent"))
    return pytester


@pytest.mark.parametrize("ci", ["true", "1", "True"])
def test_a_missing_module_fails_on_ci(project, monkeypatch, ci):
    monkeypatch.setenv("CI", ci)
    project.makepyfile(MISSING)
    result = project.runpytest_inprocess()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*skipped although CI=true: could not import 'a_module_nobody_has'*"])


def test_a_missing_module_at_the_top_of_a_file_fails_on_ci(project, monkeypatch):
    monkeypatch.setenv("CI", "true")
    project.makepyfile(MISSING_AT_THE_TOP)
    result = project.runpytest_inprocess()
    result.assert_outcomes(errors=1)
    assert result.ret != 0


def test_the_rule_holds_in_worker_processes(project, monkeypatch):
    monkeypatch.setenv("CI", "true")
    project.makepyfile(MISSING)
    # pytester prepends the current folder only; the workers need this folder's modules too.
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
    result = project.runpytest_subprocess("-n", "1")
    result.assert_outcomes(failed=1)


def test_the_rule_holds_for_doctests_outside_the_folder_of_conftest(pytester, monkeypatch):
    monkeypatch.setenv("CI", "true")
    pytester.makeini("[pytest]")
    tests, source = pytester.mkdir("tests"), pytester.mkdir("src")
    (tests / "conftest.py").write_text(Path(__file__).with_name("conftest.py").read_text(encoding="utf-8"))
    (source / "module.py").write_text('"""\n>>> 1 + 1  # doctest: +SKIP\n3\n"""\n')
    pytester.runpytest_inprocess("--doctest-modules", "tests", "src").assert_outcomes(failed=1)


@pytest.mark.parametrize("ci", [None, "", "false"])
def test_elsewhere_a_skip_is_a_skip(project, monkeypatch, ci):
    monkeypatch.delenv("CI", raising=False)
    if ci is not None:
        monkeypatch.setenv("CI", ci)
    project.makepyfile(MISSING)
    project.runpytest_inprocess().assert_outcomes(skipped=1)


def test_what_the_list_names_may_be_skipped_on_ci(project, monkeypatch):
    monkeypatch.setenv("CI", "true")
    project.makepyfile(ALLOWED_SKIPS)
    result = project.runpytest_inprocess()
    result.assert_outcomes(skipped=3, xfailed=1)
    assert result.ret == 0


@pytest.mark.parametrize(
    "reason",
    ["could not import 'torchvision': x", "could not import 'numba': x", "needs torch", "no CUDA kernels yet", ""],
)
def test_the_list_is_narrow(reason):
    assert not is_allowed(reason)


def test_the_list_says_why():
    assert all(why.strip() for why in ALLOWED.values())
