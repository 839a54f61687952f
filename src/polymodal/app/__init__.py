"""The app: a trained run that people ask in a browser, over a service without a page."""

from polymodal.app.service import Service

__all__ = ["Service"]
