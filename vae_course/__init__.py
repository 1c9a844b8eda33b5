__version__ = "0.2.0"

from . import old_names     # noqa: F401, an import of what is gone says so
