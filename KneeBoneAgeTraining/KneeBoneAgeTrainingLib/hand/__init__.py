"""Hand teachers: films of a study, pictures, batches, training, weights and results."""
