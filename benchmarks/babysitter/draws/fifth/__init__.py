"""The fifth draw, which is sealed: run once per release."""

FIRST_SEED = 88_400_000
SEEDS = 5  # different ones in this draw; twins are trained once for each
CLEAN = 4  # runs of each clean program
