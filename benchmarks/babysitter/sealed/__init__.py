"""The sealed pool: sources of data, programs, faults and look-alikes that no other pool shares."""
