"""A run as a folder and as a process: its record, what is read from it, progress, loop."""
