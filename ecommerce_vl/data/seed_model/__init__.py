"""What the vectors of a seed model say about prepared data: agreement of picture and title, semantic duplicates, leaks.

A seed model is one trained on a part of the data (`config.data.fraction`), or a published one. Its vectors come as the
files of an export, so this room knows no model.
"""
