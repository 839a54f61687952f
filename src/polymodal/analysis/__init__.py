"""Analyses of samples: canonical correlation (`cca`, `dcca`, `projection`), score ratio matching
(`score_ratio`), latent traversals (`traversals`), and which neurons follow which band of frequency
(`bands`).

All take tensors and functions of tensors and know no model, so that each can be used by itself.
"""
