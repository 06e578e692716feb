"""A faithful, deterministic Mailkit over real HTTP, for the demo, the tests and the benchmarks."""
