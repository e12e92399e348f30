"""The phantom: virtual children whose knees are projected to radiographs.

Nothing made from it speaks of real children.
"""
