"""`python -m services.cli` is the command `dreamer`."""

from services.cli import main

main()
