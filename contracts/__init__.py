"""The messages that Certwire's services exchange: all that they know of each other."""
