-- What differs from SQLite: numbering the change log, telling other controllers of it, and
-- refusing overlapping networks.

-- The change log, which is also the events. Controllers follow it by id; the ids are in the order
-- of commits because every writer holds the revision's row.
CREATE TABLE changes (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
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

ALTER TABLE networks ADD CONSTRAINT networks_do_not_overlap
    EXCLUDE USING gist (int8range(first_address, last_address, '[]') WITH &&);

