"""The databases that a lake's ledger may be in: beside its data, or shared by several machines."""
