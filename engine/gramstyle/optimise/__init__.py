"""L-BFGS-B: SciPy's, the reference, and the same method over any array namespace."""
