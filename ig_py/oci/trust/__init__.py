"""Who signed an image: finding signatures, checking them, making them (spec oci-metadata §3)."""
