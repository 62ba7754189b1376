"""From staged images to public tags: tests, records, the catalogue, and back (docs/publishing.md)."""
