"""Experiments: recipes planned as runs; comparisons whose equal stages are trained once."""
