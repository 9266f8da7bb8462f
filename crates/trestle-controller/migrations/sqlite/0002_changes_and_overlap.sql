-- What differs from PostgreSQL: numbering the change log, and refusing overlapping networks.

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
    -- What to load again: `host`, `network` or `interface`, and its id.
    entity_kind TEXT,
    entity TEXT
);

CREATE TRIGGER networks_do_not_overlap BEFORE INSERT ON networks
WHEN EXISTS (
    SELECT 1 FROM networks
    WHERE first_address <= NEW.last_address AND last_address >= NEW.first_address
)
BEGIN
    SELECT RAISE(ABORT, 'networks_do_not_overlap');
END;

CREATE TRIGGER networks_keep_their_range BEFORE UPDATE OF first_address, last_address ON networks
BEGIN
    SELECT RAISE(ABORT, 'networks_keep_their_range');
END;
