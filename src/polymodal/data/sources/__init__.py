"""Sources of modalities: `SOURCES` holds every source that a file of this folder registers.

>>> {"table", "text"} <= SOURCES.keys()
True
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from polymodal.data.sources.source import SOURCES, Place, Samples, Source, register, source_of

__all__ = ["SOURCES", "Place", "Samples", "Source", "register", "source_of"]

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
