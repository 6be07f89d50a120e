"""Where packaged data come from: real users' behaviours inside packages, in the format of a user's own data."""

from __future__ import annotations

from personaplug.data.pulling import Available, available, path, pull
from personaplug.data.sets import DATA_SETS, DataSet

__all__ = ["DATA_SETS", "Available", "DataSet", "available", "path", "pull"]
