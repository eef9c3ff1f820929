"""The acme service's SQL: one typed function a query, which never commits."""
