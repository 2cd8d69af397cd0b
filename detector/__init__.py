"""querywatch: finds attacks on machine-learning models in the stream of queries to their prediction API.

The modules in the order in which the data meets them:

    sources/    records from Kafka or from capture files
    formats/    bytes -> EventBatch, one batch of events as columns (events.py)
    merge.py    partitions -> one stream in event time
    sketch.py   inputs of any width -> 32 whole numbers that keep distances; ring.py: the nearest of 256
    clients.py  who asks: a bounded table of (client, model); history.py: what each has asked before
    baseline.py what benign traffic of a model looks like, frozen by epoch
    detectors/  one file a detector; evidence.py: their arithmetic
    rules.py    rules/*.yml -> thresholds; triage.py: severity, episodes, suppression; alerts.py: the documents
    campaigns.py clients that act as one, judged as one; kinship.py: who goes on from whose queries
    pipeline.py all of detection in order; service.py: the one loop around it; snapshot.py: state on disk
    stores/     Elasticsearch and SQLite behind one protocol
    lifecycle.py what analysts may do with an alert; commands/alerts_*.py are their day
"""

__version__ = "0.1.0"
