"""The exactly-once core: it speaks Kafka and knows nothing of Faust. Begin to read at `commit.py`."""
