"""The node: composes connectors, contracts, privacy and ledger, and owns state and I/O."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("city-dataspace")
except PackageNotFoundError:  # running from a source tree that was never installed
    __version__ = "0.0.0"
