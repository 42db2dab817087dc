"""What travels on the wire, as pure functions and incremental readers.

Owns dialects, framing, headers and error bodies. Must not do I/O or keep global state.
"""
