"""The recipe: six steps from data to a trained network, each with its test and its verdict."""
