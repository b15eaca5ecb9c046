"""What a gadget is, read from an image: pure data, on any operating system."""
