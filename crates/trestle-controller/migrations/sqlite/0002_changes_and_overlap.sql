-- What differs from PostgreSQL: numbering the change log, and refusing overlapping subnets.

-- The change log, which is also the events. Controllers follow it by id.
CREATE TABLE changes (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    revision BIGINT NOT NULL,
    at BIGINT NOT NULL,
    kind TEXT NOT NULL,
    message TEXT NOT NULL,
    subject TEXT NOT NULL,
    -- Ids keep one project's events from the next one of the same name.
    project TEXT,
    project_name TEXT,
    host TEXT,
    host_name TEXT,
    -- What to load again: `host`, `network`, `interface`, `dns_record` and its id, or `floating_ip` and
    -- its address.
    entity_kind TEXT,
    entity TEXT
);

-- Those that are there do not overlap, so the one that begins last before the new one's end is the
-- only one that can be in its way.
CREATE TRIGGER subnets_do_not_overlap BEFORE INSERT ON subnets
WHEN NEW.first_address <= (
    SELECT last_address FROM subnets WHERE first_address <= NEW.last_address
    ORDER BY first_address DESC LIMIT 1
)
BEGIN
    SELECT RAISE(ABORT, 'subnets_do_not_overlap');
END;

CREATE TRIGGER subnets_keep_their_range BEFORE UPDATE OF first_address, last_address ON subnets
BEGIN
    SELECT RAISE(ABORT, 'subnets_keep_their_range');
END;
