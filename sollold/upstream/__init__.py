"""The hot path towards nodes: connection, keep-alive pool, timer wheel.

Owns sockets to nodes while a request is under way. Knows nothing of models, routing or dialects.
"""
