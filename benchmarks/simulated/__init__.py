"""Harvests in simulated time: the real scheduler, limiter and client over an API that exists in memory alone.

Whole days pass in seconds, nothing sleeps, and the same seed brings the same run to the last digit.
"""
