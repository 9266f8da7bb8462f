-- What differs from PostgreSQL: refusing overlapping ranges, and numbering the history.

-- Those that are there do not overlap, so the one that begins last before the new one's end is the
-- only one of its table that can be in its way.
CREATE TRIGGER pool_ranges_do_not_overlap BEFORE INSERT ON pool_ranges
WHEN NEW.first_address <= (
    SELECT last_address FROM pool_ranges WHERE first_address <= NEW.last_address
    ORDER BY first_address DESC LIMIT 1
) OR NEW.first_address <= (
    SELECT last_address FROM subnets WHERE first_address <= NEW.last_address
    ORDER BY first_address DESC LIMIT 1
)
BEGIN
    SELECT RAISE(ABORT, 'pool_ranges_do_not_overlap');
END;

CREATE TRIGGER subnets_do_not_overlap_with_pools BEFORE INSERT ON subnets
WHEN NEW.first_address <= (
    SELECT last_address FROM pool_ranges WHERE first_address <= NEW.last_address
    ORDER BY first_address DESC LIMIT 1
)
BEGIN
    SELECT RAISE(ABORT, 'subnets_do_not_overlap_with_pools');
END;

CREATE TRIGGER pool_ranges_keep_their_range BEFORE UPDATE OF first_address, last_address ON pool_ranges
BEGIN
    SELECT RAISE(ABORT, 'pool_ranges_keep_their_range');
END;

-- Who had an address when. The names are those of then, and nothing refers to what may be gone.
CREATE TABLE address_history (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    address TEXT NOT NULL,
    -- `fixed_ip`, `floating_ip`, `port_forward` or `reserved`.
    held_as TEXT NOT NULL,
    project TEXT NOT NULL,
    project_name TEXT NOT NULL,
    -- These are NULL together, but for the host.
    interface TEXT,
    instance TEXT,
    instance_name TEXT,
    mac TEXT,
    -- Where it was plugged in.
    host TEXT,
    host_name TEXT,
    since BIGINT NOT NULL,
    -- NULL while it lasts.
    until BIGINT
);
CREATE INDEX address_history_by_address ON address_history (address, id);
CREATE INDEX address_history_open_by_address ON address_history (address) WHERE until IS NULL;
CREATE INDEX address_history_open_by_interface ON address_history (interface)
    WHERE until IS NULL AND interface IS NOT NULL;
CREATE INDEX address_history_over ON address_history (until) WHERE until IS NOT NULL;
