"""What trtforge says to registries: images, artifacts and blobs over the OCI distribution API."""
