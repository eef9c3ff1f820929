"""What has to be there before services start: roles of Postgres, accounts and streams of NATS."""
