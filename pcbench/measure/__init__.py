"""What is reported: divergence, accuracy over training, and cost."""
