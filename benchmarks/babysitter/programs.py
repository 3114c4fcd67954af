"""Base programs: healthy recipes, as data. Those of the draws share no source of data."""

from __future__ import annotations

from benchmarks.babysitter import draws
from benchmarks.babysitter.recipes import Recipe

PROGRAMS: list[Recipe] = [program for part in draws.parts("programs").values() for program in part.PROGRAMS]
BY_NAME = {program["name"]: program for program in PROGRAMS}
