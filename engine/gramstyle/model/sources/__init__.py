"""Readers of the weights files of other programs; they execute nothing in a file."""
