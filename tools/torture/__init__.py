"""Try to make gramstyle lose, half-write or execute something, crash or hang.

``python -m tools.torture`` kills runs at random moments, fills the disk under every command that
writes files, and gives mutated files to every reader. It prints a table for each campaign and
exits with code 1 if anything that docs/reliability.md promises did not hold. Every trial follows
from a seed, and each finding comes with the command that repeats it. The campaigns need Linux and
the packages of ``make test``.
"""
