"""The proof of the babysitter: planted faults and healthy look-alikes, what is found, and how often it is right."""
