"""Who signed an image: finding signatures, checking them, making them (docs/trust.md)."""
