"""The operating system: apt resolves and downloads, mmdebstrap installs, a layer comes out."""
