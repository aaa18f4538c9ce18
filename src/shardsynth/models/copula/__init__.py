"""The native Gaussian copula: fitted from counts, sampled in integers."""
