"""Image features in memory: what the vision encoder made of the images seen last, within a budget of bytes.

The KV cache shares full blocks only, so the last few visual tokens of a known image are computed again, and for them
its features are needed: the last rows of every image are kept apart, in a small budget of their own, where they
outlive the whole. Knows arrays and keys; does not know images.
"""

from __future__ import annotations

from collections import OrderedDict

from vlrun.types.arrays import FloatArray


class FeatureCache:
    """Features ``[rows, tokens, hidden]`` by key; of each also the last ``tail`` tokens alone."""

    def __init__(self, budget: int, tail: int, tails_budget: int) -> None:
        self._tail = tail
        self._whole = _Recent(budget)
        self._tails = _Recent(tails_budget)

    def put(self, key: bytes, features: FloatArray) -> None:
        """Keep features, as long as there is room."""
        self._whole.put(key, features)
        self._tails.put(key, features[:, -self._tail :].copy() if features.shape[1] > self._tail else features)

    def put_tail(self, key: bytes, features: FloatArray) -> None:
        """Keep the features of an image's last tokens, unless more of them are known."""
        known = self._tails.get(key)
        if known is None or known.shape[1] < features.shape[1]:
            self._tails.put(key, features)

    def get(self, key: bytes, tokens: int, begin: int) -> FloatArray | None:
        """Tokens ``begin ..`` of the ``tokens`` of an image, if they are known."""
        for kept in (self._whole, self._tails):
            features = kept.get(key)
            if features is not None and features.shape[1] >= tokens - begin:
                return features[:, features.shape[1] - (tokens - begin) :]
        return None

    @property
    def bytes(self) -> int:
        """Bytes in use."""
        return self._whole.bytes + self._tails.bytes


class _Recent:
    """Arrays by key within a budget; the least recently used goes first."""

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._arrays: OrderedDict[bytes, FloatArray] = OrderedDict()
        self.bytes = 0

    def put(self, key: bytes, array: FloatArray) -> None:
        if array.nbytes > self._budget:
            return  # it would drive out all others and then itself
        old = self._arrays.pop(key, None)
        self.bytes += array.nbytes - (old.nbytes if old is not None else 0)
        self._arrays[key] = array
        while self.bytes > self._budget and self._arrays:
            _, dropped = self._arrays.popitem(last=False)
            self.bytes -= dropped.nbytes

    def get(self, key: bytes) -> FloatArray | None:
        if key in self._arrays:
            self._arrays.move_to_end(key)
        return self._arrays.get(key)
