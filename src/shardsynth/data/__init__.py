"""What a table is: Arrow types, shards, columns, metadata, codes; reading and writing files of rows.

Knows no summary, model or run. Imports ``errors``.
"""
