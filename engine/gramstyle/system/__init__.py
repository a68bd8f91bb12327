"""What the operating system offers: files, memory, cores, processes."""
