"""The recipe: six steps from data to a trained network, each with its test and its verdict."""

from deepbabysit.babysit.recipe.running import Recipe, Result
from deepbabysit.babysit.recipe.steps import Step

__all__ = ["Recipe", "Result", "Step"]
