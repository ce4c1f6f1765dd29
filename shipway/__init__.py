"""Shipway: from a trained PyTorch state_dict to a measured, versioned model in production."""

__version__ = "0.1.0"
