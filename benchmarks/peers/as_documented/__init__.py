"""Every server as its own documentation leads a newcomer, who has a PyTorch model."""
