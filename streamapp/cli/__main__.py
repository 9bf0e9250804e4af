"""`python -m streamapp.cli`, for a process that starts another one."""

from streamapp.cli.main import main

main()
