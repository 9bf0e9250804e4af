"""The programs that do the reference job, one a file. `catalogue.py` says how each is started and what it lacks.

Each reads `BENCH_` variables (broker, source, output, changelog, group, state directory) and works until SIGTERM.
"""
