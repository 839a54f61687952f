"""Training: stage by stage, resumable, the same bits for the same seed."""
