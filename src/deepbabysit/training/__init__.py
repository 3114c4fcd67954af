"""The loop over a layer: step, callbacks, history, display.

The folder and the block ``with db.training():`` share a name, so this module can be called: ``deepbabysit.training()``
is `deepbabysit.layers.updates.training`.
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from types import ModuleType

from deepbabysit.layers.updates import training as _training


class _Callable(ModuleType):
    """A module that opens a block in training mode when it is called."""

    def __call__(self) -> AbstractContextManager[None]:
        return _training()


sys.modules[__name__].__class__ = _Callable
