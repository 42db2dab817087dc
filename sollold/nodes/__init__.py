"""What is known about nodes: registry, probes, sources.

Owns node records and their health. Must not forward requests or choose between nodes.
"""
