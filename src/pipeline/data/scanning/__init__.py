"""What every image file tells about itself, and which files are copies of each other."""
