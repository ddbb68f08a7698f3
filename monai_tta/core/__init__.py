"""What one adaptation step is made of: shadow, selection, statistics, losses, gradients, optimisers, records."""
