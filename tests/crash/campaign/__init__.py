"""The crash campaign: every crash point, four ways to go on, on real Kafka, judged by the auditor and once more."""
