"""`python -m controller` is the console script `keepip`."""

from controller.process.main import cli

cli()
