"""Contenders: persistent child processes that speak JSON lines; the parent times them in turns."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from typing import Any

NAMES = ["ours-replay", "ours-eager", "torch-eager", "torch-fused", "torch-compile", "torch-last", "jax"]
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


class ContenderError(RuntimeError):
    """A contender died or refused; the text carries its stderr."""


class Contender:
    """One child process."""

    def __init__(self, name: str, threads: int, command: list[str] | None = None) -> None:
        self.name = name
        environment = {**os.environ, **dict.fromkeys(_THREADS, str(threads))}
        if name == "jax":
            environment["XLA_FLAGS"] = f"--xla_cpu_multi_thread_eigen={'true' if threads > 1 else 'false'}"
            environment["JAX_PLATFORMS"] = "cpu"
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - lives as long as the child
        self._child = subprocess.Popen(
            command or [sys.executable, "-m", "benchmarks.contenders.child", name, str(threads)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True, env=environment,
        )

    def ask(self, **message: Any) -> dict[str, Any]:
        """Send one line, wait for one line."""
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
            raise ContenderError(f"{self.name} ended with status {status}: {self._errors.read()[-2000:]}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def pause(self) -> None:
        """Stop the child: threads that wait by spinning would take the cores from the one that is timed."""
        if hasattr(signal, "SIGSTOP") and self._child.poll() is None:
            self._child.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let the child go on."""
        if hasattr(signal, "SIGCONT") and self._child.poll() is None:
            self._child.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """End the child."""
        self.resume()
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        self._child.wait()
        self._errors.close()
