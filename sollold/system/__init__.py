"""What the operating system offers: directories, locks, listening sockets, service manager."""
