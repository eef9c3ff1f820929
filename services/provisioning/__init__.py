"""What has to be there before services start: roles of Postgres; keys, accounts, streams of NATS."""
