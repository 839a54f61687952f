"""Run directories: what they hold, how they are written, resumed and loaded."""
