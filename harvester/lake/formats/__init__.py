"""Table formats that follow the ledger: Delta Lake and Iceberg."""
