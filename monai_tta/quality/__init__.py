"""What an answer is worth, without labels."""
