"""The lake's wing: making pages durable, sealing them into data files, remembering it all. Knows nothing of the API."""
