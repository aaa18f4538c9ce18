"""The autoregressive model over the codes."""
