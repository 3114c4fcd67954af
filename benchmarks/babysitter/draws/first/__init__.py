"""The first draw that was sealed; its misses have been read."""

FIRST_SEED = 770_000
SEEDS = 10  # different ones in this draw; twins are trained once for each
CLEAN = 12  # runs of each clean program
