"""A run that a command executes: its progress, its files, its page in the browser, its report."""
