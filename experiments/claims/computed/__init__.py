"""The claims that need no training: one function each, which computes its verdict from our nets.

What a claim is held against (a paper's table, the number in the notes) stands as a constant beside
its function; what is compared with it comes from cnns every time.
"""
