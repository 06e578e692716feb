"""The harvest: who is asked next, what an answer proves, and what flows from the API to the lake."""
