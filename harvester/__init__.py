"""Harvests whole Mailkit accounts, message by message, into a lake of partitioned Parquet, and proves that it did."""

__version__ = "0.1.0"
__all__ = ["__version__"]
