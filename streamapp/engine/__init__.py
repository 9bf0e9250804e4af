"""The task engine: tasks, units, the gate and the commit cycle. It knows neither Faust nor a Kafka client."""
