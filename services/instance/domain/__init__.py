"""The rules of instances, without I/O."""
