"""What the net sees of an image, in training and in evaluation."""
