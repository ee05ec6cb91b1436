"""Builds in a temporary folder, so that installing or packing vlrun leaves nothing in the clone.

All metadata is in setup.cfg. A source distribution is built in the clone: it has to contain what egg_info writes.
"""

import sys
import tempfile

from setuptools import setup

with tempfile.TemporaryDirectory(prefix="vlrun-build-") as scratch:
    bases = {} if "sdist" in sys.argv else {"build": {"build_base": scratch}, "egg_info": {"egg_base": scratch}}
    setup(options=bases)
