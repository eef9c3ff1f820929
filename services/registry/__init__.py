"""Who is who: the administrator, users and their sessions."""
