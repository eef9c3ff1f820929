"""`make bench`: renewals beside OpenBao on the same machine, in the same run."""
