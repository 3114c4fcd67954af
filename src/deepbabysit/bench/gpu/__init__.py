"""One look at a GPU: is everything right, and how fast is it? Prints as it goes, within a budget of seconds."""

from __future__ import annotations
