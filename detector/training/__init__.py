"""What the owner knows and no stranger can: which records trained a model, as an index that answers and never tells.

records.py       training records from a file, in chunks
fingerprints.py  a record -> one keyed digest of it, eight of its neighbourhood
build.py         records -> an index, measuring how near is near
index.py         the file; all indexes of a folder; the look-up for the stream
canaries.py      made-up records to plant, which nobody outside can know
"""
