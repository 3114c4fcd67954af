"""The fourth draw that is sealed: run once per release."""

FIRST_SEED = 71_900_000
SEEDS = 5  # different ones in this draw; twins are trained once for each
CLEAN = 6  # runs of each clean program
