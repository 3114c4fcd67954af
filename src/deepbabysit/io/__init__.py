"""Files that are whole or absent, and the tensors in them."""
