"""Streaming on Apache Kafka for events that must count exactly once, under the Faust API people like."""
