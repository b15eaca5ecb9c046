"""From gadget sources to an image: compile, generate and check metadata, pack."""
