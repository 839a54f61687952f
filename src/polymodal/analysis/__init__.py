"""Analyses of samples: canonical correlation (`cca`, `dcca`, `projection`) and score ratio matching
(`score_ratio`).

Both take tensors and know no model, so that each can be used by itself.
"""
