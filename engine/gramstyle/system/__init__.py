"""Services of the operating system: files, memory, cores, processes."""
