"""The command `polymodal`."""
