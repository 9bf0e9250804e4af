"""Everything of aiokafka: the group member, fetching, requests to the cluster, and the environment of a worker."""
