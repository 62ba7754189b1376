"""`python -m trtkit`."""

from trtkit.cli import main

main()
