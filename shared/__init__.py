"""Mechanism that two or more services need; never policy."""

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("certwire")
except PackageNotFoundError:  # run from a checkout that is not installed
    VERSION = "0.0.0"
