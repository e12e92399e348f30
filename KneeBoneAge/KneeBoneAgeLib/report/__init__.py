"""What a run leaves behind: records as JSON lines and CSV, pictures, and a page to look at."""
