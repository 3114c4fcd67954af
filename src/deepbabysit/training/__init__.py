"""The loop over a layer, and what watches it: history, callbacks, display."""
