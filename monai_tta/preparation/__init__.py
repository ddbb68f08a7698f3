"""What is done once at the source, where the labels are."""
