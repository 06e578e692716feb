"""Speed and memory, measured: each benchmark on seeded data, as ratios to a named reference in the same run."""
