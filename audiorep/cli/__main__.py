"""`python -m audiorep.cli`, which is the command `audiorep`."""

from audiorep.cli.main import main

main()
