"""Signatures of images: finding, verifying and making them (docs/trust.md)."""
