"""The Docker Engine: found or started, loaded, asked, and used as a builder."""
