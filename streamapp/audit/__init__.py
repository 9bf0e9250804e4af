"""The independent oracle: reads what is in Kafka, recomputes it from the contract alone, and says who is right.

It shares nothing with the service: no code, no parser, no Kafka client. `audit()` reads and judges; the judge
itself (`judge.Judge`) is pure. Three verdicts: PASS, FAIL with every violation's smallest story, and UNKNOWN
whenever it could not look at everything there was to look at.
"""

from streamapp.audit.record import Topics
from streamapp.audit.report import Report, Verdict
from streamapp.audit.run import audit
from streamapp.audit.terms import Rules

__all__ = ["Report", "Rules", "Topics", "Verdict", "audit"]
