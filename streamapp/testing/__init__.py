"""The test kit: Kafka in memory, faults by a seed and time that jumps, so that a run is a function of its seed."""
