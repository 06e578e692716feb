"""Looking after a lake: verifying it, mending it, making a lost ledger anew, compacting."""
