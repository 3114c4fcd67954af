"""What Numba compiles: these modules import it, so nobody imports them but `loading`."""
