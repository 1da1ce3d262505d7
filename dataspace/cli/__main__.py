"""`python -m dataspace.cli`: the same as the `dataspace` command."""

from dataspace.cli import main

main()
