"""Stock Faust's exactly_once and ours in the same scenarios on real Kafka: `make stock`."""
