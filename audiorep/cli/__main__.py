"""Makes `python -m audiorep.cli` the same as the command `audiorep`."""

from audiorep.cli.main import main

main()
