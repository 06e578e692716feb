"""What a person sees: the command line, the progress, the report."""
