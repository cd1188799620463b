"""`fleet demo`: the whole system on this machine, on real data, with nothing configured.

The other programs are started by their command lines, as an operator would; nothing of them is imported.
"""
