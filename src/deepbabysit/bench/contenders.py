"""Contenders: persistent child processes that speak JSON lines; the parent times them in turns."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
from typing import Any, final

from deepbabysit.errors import unknown

NAMES = (
    "ours-replay", "torch-eager", "torch-fused", "torch-compile", "torch-last", "torch-compile-last", "jax",
)  # fmt: skip
MORE = (
    "ours-eager", "ours-plain", "ours-reference", "ours-bare", "ours-fit", "ours-watched", "ours-loader", "ours-ahead",
    "ours-gather", "ours-control", "torch-loader", "torch-batched",
)  # fmt: skip
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


class ContenderError(RuntimeError):
    """A contender died or refused; the text carries its stderr."""


def library(name: str) -> str:
    """Return "ours", "torch" or "jax"."""
    return name.partition(":")[0].partition("-")[0]


def missing(name: str) -> str:
    """Return why a contender cannot run here, or an empty text.

    Raises:
        ValueError: there is no contender of that name.
    """
    plain, _, device = name.partition(":")
    if plain not in (*NAMES, *MORE):
        raise ValueError(unknown("contender", plain, (*NAMES, *MORE)))
    if library(name) == "ours":
        if device:
            from deepbabysit.runtime import registry

            infos = registry.backends()
            found = any(d == device or d.startswith(f"{device}:") for info in infos for d in info.devices)
            reasons = [info.reason for info in infos if not info.usable]
            return "" if found else f"no GPU: {'; '.join(reasons) or f'no device {device}'}"
        return ""
    module = library(name)
    if importlib.util.find_spec(module) is None:
        return f"could not import {module!r}: pip install 'deepbabysit[peers]'"
    return ""


def fits(name: str, case: dict[str, Any]) -> bool:
    """Tell whether a contender differs from the others on this network (channels last needs images)."""
    return "-last" not in name or len(case["input"]) == 3


@final
class Contender:
    """One child process.

    Arguments:
        name: one of `NAMES` or `MORE`, with ``:cuda`` behind it for a GPU, or "limits".
        threads: how many processors it may use.
        command: what to start instead of our own child.
    """

    def __init__(self, name: str, threads: int, command: list[str] | None = None) -> None:
        self.name = name
        environment = self.environment(name, threads)
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - lives as long as the child
        self._child = subprocess.Popen(
            command or [sys.executable, "-P", "-m", "deepbabysit.bench.child", name, str(threads)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True, env=environment,
        )  # fmt: skip

    @staticmethod
    def environment(name: str, threads: int) -> dict[str, str]:
        """Return the environment of a child."""
        found = {**os.environ, **dict.fromkeys(_THREADS, str(threads))}
        # the child finds what this process finds, however the paths came about
        found["PYTHONPATH"] = os.pathsep.join(os.path.abspath(path) for path in sys.path if path)
        if library(name) == "jax":
            found["XLA_FLAGS"] = f"--xla_cpu_multi_thread_eigen={'true' if threads > 1 else 'false'}"
            found["JAX_PLATFORMS"] = "cpu"
        return found

    def ask(self, **message: Any) -> dict[str, Any]:
        """Send one line, wait for one line.

        Raises:
            ContenderError: the child died, or answered with an error.
        """
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        try:
            self._child.stdin.write(json.dumps(message) + "\n")
            self._child.stdin.flush()
            line = self._child.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self._child.wait()
            self._errors.seek(0)
            status = self._child.returncode
            raise ContenderError(f"{self.name} ended with status {status}: {self._errors.read()[-2000:].strip()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise ContenderError(f"{self.name}: {answer['error']}")
        return answer

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._child.pid

    def pause(self) -> None:
        """Stop the child: threads that wait by spinning would take the cores from the one that is timed."""
        if hasattr(signal, "SIGSTOP") and self._child.poll() is None:
            self._child.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let the child go on."""
        if hasattr(signal, "SIGCONT") and self._child.poll() is None:
            self._child.send_signal(signal.SIGCONT)

    def hang_up(self) -> None:
        """Let the child know that nothing more comes: it ends by itself."""
        self.resume()
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    def close(self) -> None:
        """End the child."""
        self.hang_up()
        try:
            self._child.wait(10)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._errors.close()


@final
class Pool:
    """The children of a run, started when first needed, paused while others are timed; closes them at the end."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._children: dict[str, Contender] = {}

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        for child in self._children.values():
            child.hang_up()
        for name in list(self._children):
            self.drop(name)

    def ask(self, name: str, **message: Any) -> dict[str, Any]:
        """Wake a child, ask it, and let it sleep again; one that fails is dropped and starts anew the next time."""
        child = self._children.get(name)
        if child is None:
            child = self._children[name] = Contender(name, self.threads)
        child.resume()
        try:
            answer = child.ask(**message)
        except ContenderError:
            self.drop(name)
            raise
        child.pause()
        return answer

    def pids(self) -> dict[str, int]:
        """Return the process of each child."""
        return {name: child.pid for name, child in self._children.items()}

    def drop(self, name: str) -> None:
        """End one child."""
        child = self._children.pop(name, None)
        if child is not None:
            child.close()
