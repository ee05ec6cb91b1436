"""Bookkeeping of the paged KV cache: block pool, block hashes, prefix store on disk. The tensors are the backend's."""
