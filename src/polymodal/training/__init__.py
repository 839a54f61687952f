"""Training: stage by stage, resumable, with the same bits for the same seed and number of
threads.
"""
