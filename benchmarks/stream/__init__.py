"""The stream host held against raw loops and other frameworks."""
