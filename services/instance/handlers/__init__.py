"""The commands of the instance service: a function each, `(command, instances) -> reply`."""
