-- What differs from SQLite: the order of addresses, refusing overlapping ranges, and numbering the
-- history.

-- Addresses sort by their bytes whatever the database's language.
ALTER TABLE pool_ranges
    ALTER COLUMN first_address TYPE TEXT COLLATE "C",
    ALTER COLUMN last_address TYPE TEXT COLLATE "C",
    ALTER COLUMN next_address TYPE TEXT COLLATE "C";
ALTER TABLE floating_ips
    ALTER COLUMN address TYPE TEXT COLLATE "C",
    ALTER COLUMN fixed TYPE TEXT COLLATE "C";
ALTER TABLE port_forwards
    ALTER COLUMN address TYPE TEXT COLLATE "C",
    ALTER COLUMN fixed TYPE TEXT COLLATE "C";
ALTER TABLE dns_addresses ALTER COLUMN address TYPE TEXT COLLATE "C";
ALTER TABLE dns_domains ALTER COLUMN name TYPE TEXT COLLATE "C";
ALTER TABLE dns_records ALTER COLUMN name TYPE TEXT COLLATE "C";

-- Those that are there do not overlap, so the one that begins last before the new one's end is the
-- only one of its table that can be in its way. Every writer holds the revision's row, so none sees
-- less than all that others put in.
CREATE FUNCTION refuse_pool_range() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.first_address <= (
        SELECT last_address FROM pool_ranges WHERE first_address <= NEW.last_address
        ORDER BY first_address DESC LIMIT 1
    ) OR NEW.first_address <= (
        SELECT last_address FROM subnets WHERE first_address <= NEW.last_address
        ORDER BY first_address DESC LIMIT 1
    ) THEN
        RAISE EXCEPTION 'pool_ranges_do_not_overlap';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER pool_ranges_do_not_overlap BEFORE INSERT ON pool_ranges
    FOR EACH ROW EXECUTE FUNCTION refuse_pool_range();

CREATE FUNCTION refuse_subnet_of_pool() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.first_address <= (
        SELECT last_address FROM pool_ranges WHERE first_address <= NEW.last_address
        ORDER BY first_address DESC LIMIT 1
    ) THEN
        RAISE EXCEPTION 'subnets_do_not_overlap_with_pools';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER subnets_do_not_overlap_with_pools BEFORE INSERT ON subnets
    FOR EACH ROW EXECUTE FUNCTION refuse_subnet_of_pool();

CREATE FUNCTION keep_pool_range() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'pool_ranges_keep_their_range';
END $$;
CREATE TRIGGER pool_ranges_keep_their_range BEFORE UPDATE OF first_address, last_address ON pool_ranges
    FOR EACH ROW EXECUTE FUNCTION keep_pool_range();

-- Who had an address when. The names are those of then, and nothing refers to what may be gone.
CREATE TABLE address_history (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    address TEXT COLLATE "C" NOT NULL,
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
