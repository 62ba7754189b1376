"""What lies in images/ beside the templates."""
