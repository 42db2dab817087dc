"""Words and orders that the command line and the console page have in common."""
