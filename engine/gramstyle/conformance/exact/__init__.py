"""Numbers and arithmetic that are the same to the last bit on every machine."""
