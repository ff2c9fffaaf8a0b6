"""`python -m covis`: the command line."""

from covis.cli import app

app(prog_name="covis")
