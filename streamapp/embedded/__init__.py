"""Apache Kafka and PostgreSQL for a laptop, tests and CI, out of the package registries: no Java, Maven or Docker.

`servers` is what `streamapp up|down|status` does; `kafka.Kafka` and `postgres.Postgres` are context managers for
tests. Production names real clusters in STREAMAPP_BROKER and STREAMAPP_DATABASE_URL and needs nothing of this.
"""
