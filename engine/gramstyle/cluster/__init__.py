"""Tiles and jobs on the workers of a Dask cluster."""
