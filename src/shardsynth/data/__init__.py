"""What a table is: Arrow types, shards, columns, metadata, codes; reading and writing files of rows.

It knows no summaries, models or runs. It imports ``errors`` alone.
"""
