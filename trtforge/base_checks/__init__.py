"""verify-base: whether an image that the user has can be the base of ours, check by check."""
