"""Data, preprocessing and training."""
