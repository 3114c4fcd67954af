"""One background thread that keeps a few items ready ahead of the one who consumes them."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Generator, Iterator
from queue import SimpleQueue
from typing import Any, Generic, TypeVar, final

T = TypeVar("T")

_ITEM, _END, _ERROR = range(3)


@final
class Prefetched(Generic[T]):
    """Iterate over a generator that runs in a thread of its own, at most ``depth`` items ahead.

    Exceptions of the generator are raised where the item would have come. The thread ends with the generator, with
    ``close()`` (which waits for it), or when this iterator is garbage collected. The thread sees a copy of the context
    variables of the caller.
    """

    # SimpleQueue.put may be called from a destructor at any moment (its documentation promises it), so the finalizer
    # needs no lock that the interrupted code may hold. The worker pays one token per item: this bounds the queue.
    def __init__(self, source: Generator[T, None, None], depth: int) -> None:
        self._ready: SimpleQueue[tuple[int, Any]] = SimpleQueue()
        self._tokens: SimpleQueue[bool] = SimpleQueue()
        self._stopped = threading.Event()
        self._done = False
        for _ in range(depth):
            self._tokens.put(True)
        context = contextvars.copy_context()
        # The thread must not know this object, or it would never be garbage collected. It is a daemon: an iterator
        # that is still open when the interpreter ends must not keep it alive.
        self._thread = threading.Thread(
            target=context.run,
            args=(_work, source, self._ready, self._tokens, self._stopped),
            name="deepbabysit-prefetch",
            daemon=True,
        )
        self._thread.start()

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        if self._done:
            raise StopIteration
        kind, value = self._ready.get()
        if kind == _ITEM:
            self._tokens.put(True)
            item: T = value
            return item
        self._done = True
        self._thread.join()
        if kind == _ERROR:
            raise value
        raise StopIteration

    def close(self) -> None:
        """End the thread and wait for it; items made ahead are dropped."""
        self._done = True
        self._stop()
        if threading.current_thread() is not self._thread:
            self._thread.join()
        self._ready = SimpleQueue()

    def _stop(self) -> None:
        self._stopped.set()
        self._tokens.put(False)

    def __enter__(self) -> Prefetched[T]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_thread"):
            self._stop()


def _work(
    source: Generator[Any, None, None],
    ready: SimpleQueue[tuple[int, Any]],
    tokens: SimpleQueue[bool],
    stopped: threading.Event,
) -> None:
    """Make one item per token until the source ends, fails, or nobody wants more."""
    try:
        while tokens.get() and not stopped.is_set():
            try:
                item = next(source)
            except StopIteration:
                ready.put((_END, None))
                return
            ready.put((_ITEM, item))
            del item  # or the last batch would live as long as this thread waits
    except BaseException as error:
        ready.put((_ERROR, error))
    finally:
        source.close()
