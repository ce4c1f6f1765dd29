"""`python -m shipway`, the same as the command `shipway`."""

from shipway.cli.main import main

main()
