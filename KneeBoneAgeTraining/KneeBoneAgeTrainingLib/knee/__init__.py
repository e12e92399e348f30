"""Knee students: crops of a study, labels, transfer from a teacher, folds and results."""
