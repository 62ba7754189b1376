"""Slimming: a shared library without the GPU code that the GPUs it is meant for never run.

Nothing here needs more than the standard library, so it runs wherever Python does.
"""
