"""Rows for programs: a dataset's record batches as they come, proven like a lake's, and written nowhere."""
