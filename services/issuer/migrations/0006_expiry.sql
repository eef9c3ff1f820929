-- Up to which end of validity it has been announced that certificates end, so many days ahead; 0
-- days: that they have ended. What had ended before the first look is old news.
CREATE TABLE expiry (
    days integer PRIMARY KEY,
    announced_until timestamptz NOT NULL,
    announced_id bigint NOT NULL DEFAULT 0  -- of several that end at this moment
);
INSERT INTO expiry (days, announced_until)
SELECT days, date_trunc('second', now()) FROM unnest(ARRAY[30, 7, 1, 0]) AS days;
