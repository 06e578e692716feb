"""Where a lake's files are: in a folder or an object store, whole or not at all."""
