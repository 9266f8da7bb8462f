-- What differs from SQLite: numbering the change log, the order of addresses, and refusing
-- overlapping subnets.

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
    -- What to load again: `host`, `network`, `interface`, `dns_record` and its id, or `floating_ip` and
    -- its address.
    entity_kind TEXT,
    entity TEXT
);

-- Addresses sort by their bytes whatever the database's language.
ALTER TABLE subnets
    ALTER COLUMN first_address TYPE TEXT COLLATE "C",
    ALTER COLUMN last_address TYPE TEXT COLLATE "C",
    ALTER COLUMN gateway TYPE TEXT COLLATE "C",
    ALTER COLUMN vpn TYPE TEXT COLLATE "C",
    ALTER COLUMN allowed_first TYPE TEXT COLLATE "C",
    ALTER COLUMN allowed_last TYPE TEXT COLLATE "C",
    ALTER COLUMN dhcp_start TYPE TEXT COLLATE "C",
    ALTER COLUMN next_address TYPE TEXT COLLATE "C";
ALTER TABLE reserved_ranges
    ALTER COLUMN first_address TYPE TEXT COLLATE "C",
    ALTER COLUMN last_address TYPE TEXT COLLATE "C";
ALTER TABLE releases ALTER COLUMN address TYPE TEXT COLLATE "C";
ALTER TABLE fixed_ips ALTER COLUMN address TYPE TEXT COLLATE "C";
ALTER TABLE observed_leases ALTER COLUMN address TYPE TEXT COLLATE "C";

-- Two CIDRs overlap where one holds the other.
ALTER TABLE subnets ADD CONSTRAINT subnets_do_not_overlap
    EXCLUDE USING gist (CAST(cidr AS inet) inet_ops WITH &&);
