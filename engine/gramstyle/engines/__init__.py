"""The ways to compute an evaluation fast, and the registry that names them."""
