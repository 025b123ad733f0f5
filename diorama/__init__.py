"""Diorama: train your own image, video and world models, end to end."""
