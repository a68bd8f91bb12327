"""Try to make ``gramstyle serve`` lose a job, do one twice, fail, leak, grow or hang.

``python -m tools.torture.service`` starts the real server and loads it, kills it and its workers,
fills its disk, and sends it malformed requests. It prints a table for each campaign and exits with
code 1 if anything that docs/reliability.md promises did not hold.
"""
