"""The test kit: Kafka in memory, faults by a seed and time that jumps, so that a run is a function of its seed.

    async def main(loop: VirtualLoop) -> None:
        broker = MemoryBroker()
        broker.create_topic("transfer", 4)
        cluster = MemoryCluster(broker, SeededFaults(random.Random(7), Rates(lose_answer=0.1)))
        producer = Producer(cluster, "worker-1", transaction_timeout_s=10, clock=VirtualClock())
        process = loop.process("worker-1")      # can be frozen, thawed and killed
        await process.spawn(producer.start())

    run(main, seed=7)

`broker` is what all clients share, `cluster` one client's connection with its faults, `consumer` a group member,
`loop` the virtual time. The broker answers as Kafka 4.1 does: `tests/contract` holds both to one suite.
"""
