"""The API's wing: asking one query and turning its answer into a page. Knows nothing of lakes."""
