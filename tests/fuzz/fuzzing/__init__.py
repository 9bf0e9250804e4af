"""A fuzz of whole workers: odd records into agents of every kind, and a model that accounts for each of them."""
