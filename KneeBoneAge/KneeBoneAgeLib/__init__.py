"""Skeletal maturity from knee radiographs: read, find the knees, crop, estimate, explain, report."""
