"""Small PDF files."""

from __future__ import annotations

from collections.abc import Sequence

PAGE = b"1 0 0 rg 0 0 100 100 re f"
"""A red square of 100 points at the lower left."""


def pdf(contents: Sequence[bytes] = (PAGE,), box: str = "0 0 200 300", page: str = "", extra: str = "") -> bytes:
    """Return a file with a page for each content stream.

    ``box`` is the paper in points; ``page`` are more entries of each page, ``extra`` of the trailer.
    """
    count = len(contents)
    kids = " ".join(f"{3 + 2 * number} 0 R" for number in range(count))
    objects = [b"<</Type/Catalog/Pages 2 0 R>>", f"<</Type/Pages/Count {count}/Kids[{kids}]>>".encode()]
    for number, content in enumerate(contents):
        entries = f"/Type/Page/Parent 2 0 R/MediaBox[{box}]/Resources<<>>/Contents {4 + 2 * number} 0 R{page}"
        objects += [f"<<{entries}>>".encode(), b"<</Length %d>>stream\n%s\nendstream" % (len(content), content)]
    parts, offsets = [b"%PDF-1.7\n"], []
    for number, content in enumerate(objects, 1):
        offsets.append(sum(map(len, parts)))
        parts.append(b"%d 0 obj%s endobj\n" % (number, content))
    start = sum(map(len, parts))
    rows = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    parts.append(b"xref\n0 %d\n0000000000 65535 f \n%s" % (len(objects) + 1, rows))
    parts.append(f"trailer<</Size {len(objects) + 1}/Root 1 0 R{extra}>>\nstartxref\n{start}\n%%EOF".encode())
    return b"".join(parts)
