"""The reference job on this service and on its peers, side by side: `make bench`. See `docs/bench.md`."""
