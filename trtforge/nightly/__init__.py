"""A night's work: refresh the lock, build what that changed, publish it, report."""
