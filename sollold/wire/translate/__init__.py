"""Between Ollama's dialect and those of other engines: requests there, replies back.

Bytes in, bytes out; nothing here waits or asks. `seam` says how the rest of the daemon uses it.
"""
