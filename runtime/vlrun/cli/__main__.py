"""``python -m vlrun.cli``: the same as the ``vlrun`` command."""

from vlrun.cli import main

main()
