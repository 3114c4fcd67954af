"""The babysitter: it sees what is wrong with a training, proves it with numbers, and knows what to do."""
