"""The autoregressive model of several tables: a subject's rows in all tables, given those before them."""
