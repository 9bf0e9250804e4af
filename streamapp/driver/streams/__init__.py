"""Events on their way into agents and out of them: Faust's agents, streams and topics on the engine."""
