"""The console page in a real browser, before a real daemon with fake nodes."""
