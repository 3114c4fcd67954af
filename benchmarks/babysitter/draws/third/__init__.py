"""The third draw that was sealed; its misses have been read."""

FIRST_SEED = 48_300_000
SEEDS = 5  # different ones in this draw; twins are trained once for each
CLEAN = 6  # runs of each clean program
