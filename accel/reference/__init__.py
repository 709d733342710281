"""What every operation means: slow, obvious, sharing no code with the engines that are compared with it."""
