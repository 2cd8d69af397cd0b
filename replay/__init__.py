"""Forensics and evaluation on captured streams: the same pipeline as the live service, another source and sink."""
