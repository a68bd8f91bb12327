"""The records of runs as JSON lines: written during a run, and read for a plot of the losses."""
