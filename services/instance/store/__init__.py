"""SQL of the instance service: one typed function a query; nothing here commits."""
