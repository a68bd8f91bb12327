"""L-BFGS-B: SciPy's implementation, which is the reference, and one over any array namespace."""
