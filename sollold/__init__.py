"""sollold: one address for every Ollama in the house.

Importing this package starts nothing and reads nothing.
"""

__version__ = "0.1.0"
