"""Public certificates: projects and their domains, ACME orders, uploads and renewal."""
