"""The real parts that tests run against: Ollama, its model store, the daemon as a process."""
