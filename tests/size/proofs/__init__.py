"""What the engine promises about time, memory and storms, at its real size on real Kafka: `make size`."""
