"""deepbabysit: train neural networks on NumPy or CuPy arrays, with somebody watching."""

__version__ = "0.1.0"
