"""The command `polymodal`."""

from polymodal.cli.main import main, run

__all__ = ["main", "run"]
