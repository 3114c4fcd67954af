"""The draw that limits are made with."""

FIRST_SEED = 1000
SEEDS = 10  # different ones in this draw; twins are trained once for each
CLEAN = 12  # runs of each clean program
