"""The daemon under real service managers."""
