"""What parts far below have to say to whoever runs a training: said in the run's messages, never printed by a library.

A notice goes to the run that listens; where none does it waits for the next one. Each text is said once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Say = Callable[[str], None]


class Notices:
    """Texts for the user, and who hears them."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._told: set[str] = set()
        self._waiting: list[str] = []
        self._ears: list[Say] = []
        self._summaries: list[Callable[[], str]] = []

    def tell(self, text: str) -> None:
        """Say a text once, now or to the next run."""
        with self._lock:
            if text in self._told:
                return
            self._told.add(text)
            ear = self._ears[-1] if self._ears else None
            if ear is None:
                self._waiting.append(text)
        if ear is not None:
            ear(text)

    def add_summary(self, source: Callable[[], str]) -> None:
        """Ask this function after every first step and at the end of a run; an empty text is not said."""
        with self._lock:
            self._summaries.append(source)

    def report(self) -> None:
        """Say what waits and what the summaries have gathered."""
        with self._lock:
            ear = self._ears[-1] if self._ears else None
            if ear is None:
                return
            texts, self._waiting = self._waiting, []
            texts += [text for source in self._summaries if (text := source())]
        for text in texts:
            ear(text)

    @contextmanager
    def heard_by(self, say: Say) -> Iterator[None]:
        """Let a run hear the notices for the duration of a block."""
        with self._lock:
            self._ears.append(say)
        try:
            self.report()
            yield
        finally:
            with self._lock:
                self._ears.remove(say)


NOTICES = Notices()
