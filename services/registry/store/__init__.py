"""The registry's SQL: one typed function a query, which never commits."""
