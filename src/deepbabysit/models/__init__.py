"""Models: layers that can be compiled, fitted, evaluated and saved."""
