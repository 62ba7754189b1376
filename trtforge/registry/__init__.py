"""The little of the OCI distribution API that a base image needs."""
