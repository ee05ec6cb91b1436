"""Bookkeeping of the paged KV cache: block pool, block hashes, prefix store on disk. Knows no tensors and no tokens'
meaning.
"""
