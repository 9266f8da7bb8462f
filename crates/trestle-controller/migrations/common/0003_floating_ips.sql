-- Floating IPs with their pools, names in DNS, and what of these comes by itself.

CREATE TABLE pools (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    -- The device that its addresses are on; each host's public one if NULL.
    interface TEXT,
    created_at BIGINT NOT NULL
);

-- A pool's addresses. No two overlap, nor do they with a subnet: see 0004.
CREATE TABLE pool_ranges (
    first_address TEXT NOT NULL PRIMARY KEY,
    last_address TEXT NOT NULL,
    pool TEXT NOT NULL REFERENCES pools (id) ON DELETE CASCADE,
    -- No address from here on was ever given out unasked; NULL when all were.
    next_address TEXT,
    CHECK (first_address <= last_address AND substr(first_address, 1, 1) = substr(last_address, 1, 1)),
    CHECK (next_address BETWEEN first_address AND last_address)
);
CREATE INDEX pool_ranges_by_pool ON pool_ranges (pool, first_address);
CREATE INDEX pool_ranges_fresh ON pool_ranges (pool, first_address) WHERE next_address IS NOT NULL;

-- A row from the first use of an address on. The primary key is what keeps an address from being
-- reserved twice.
CREATE TABLE floating_ips (
    address TEXT NOT NULL PRIMARY KEY,
    pool TEXT NOT NULL REFERENCES pools (id),
    -- Who has it; else it was given back.
    project TEXT REFERENCES projects (id),
    -- Where all that is sent to it goes: an address that this interface has.
    interface TEXT REFERENCES interfaces (id),
    fixed TEXT REFERENCES fixed_ips (address),
    -- 1 if it came with its interface and goes with it, else 0.
    auto_assigned BIGINT NOT NULL,
    reserved_at BIGINT,
    released_at BIGINT,
    -- The revision that last changed where it leads.
    generation BIGINT,
    CHECK ((project IS NULL) = (released_at IS NOT NULL)),
    CHECK ((project IS NULL) = (reserved_at IS NULL)),
    CHECK ((interface IS NULL) = (fixed IS NULL)),
    CHECK (interface IS NULL OR project IS NOT NULL),
    CHECK (auto_assigned = 0 OR interface IS NOT NULL),
    CHECK (substr(fixed, 1, 1) = substr(address, 1, 1))
);
CREATE INDEX floating_ips_by_pool ON floating_ips (pool) WHERE project IS NOT NULL;
CREATE INDEX floating_ips_by_project ON floating_ips (project, address) WHERE project IS NOT NULL;
CREATE INDEX floating_ips_counted ON floating_ips (project) WHERE project IS NOT NULL AND auto_assigned = 0;
CREATE INDEX floating_ips_by_interface ON floating_ips (interface) WHERE interface IS NOT NULL;
CREATE INDEX floating_ips_by_fixed ON floating_ips (fixed) WHERE fixed IS NOT NULL;
CREATE INDEX floating_ips_released ON floating_ips (pool, substr(address, 1, 1), released_at, address)
    WHERE released_at IS NOT NULL;

-- A port of a floating IP that leads elsewhere than the rest of it. The ids sort as they were made.
CREATE TABLE port_forwards (
    id TEXT NOT NULL PRIMARY KEY,
    address TEXT NOT NULL REFERENCES floating_ips (address),
    protocol TEXT NOT NULL CHECK (protocol IN ('tcp', 'udp')),
    port BIGINT NOT NULL CHECK (port BETWEEN 1 AND 65535),
    interface TEXT NOT NULL REFERENCES interfaces (id),
    fixed TEXT NOT NULL REFERENCES fixed_ips (address),
    fixed_port BIGINT NOT NULL CHECK (fixed_port BETWEEN 1 AND 65535),
    UNIQUE (address, protocol, port),
    CHECK (substr(fixed, 1, 1) = substr(address, 1, 1))
);
CREATE INDEX port_forwards_by_interface ON port_forwards (interface);
CREATE INDEX port_forwards_by_fixed ON port_forwards (fixed);

CREATE TABLE dns_domains (
    name TEXT NOT NULL PRIMARY KEY,
    -- On whose networks it is known; on all if NULL.
    project TEXT REFERENCES projects (id),
    created_at BIGINT NOT NULL
);
CREATE INDEX dns_domains_by_project ON dns_domains (project) WHERE project IS NOT NULL;

CREATE TABLE dns_records (
    id TEXT NOT NULL PRIMARY KEY,
    domain TEXT NOT NULL REFERENCES dns_domains (name) ON DELETE CASCADE,
    -- One or several labels, without the domain.
    name TEXT NOT NULL,
    -- With the domain: `a.b` in `c` and `a` in `b.c` are the same.
    whole TEXT NOT NULL UNIQUE,
    UNIQUE (domain, name)
);

CREATE TABLE dns_addresses (
    record TEXT NOT NULL REFERENCES dns_records (id) ON DELETE CASCADE,
    address TEXT NOT NULL,
    PRIMARY KEY (record, address)
);
CREATE INDEX dns_addresses_by_address ON dns_addresses (address);

-- The pool of which each new interface on the network gets a floating IP.
ALTER TABLE networks ADD COLUMN auto_assign TEXT REFERENCES pools (id);
CREATE INDEX networks_by_auto_assign ON networks (auto_assign) WHERE auto_assign IS NOT NULL;
-- The pool of which each new instance of the project gets one.
ALTER TABLE projects ADD COLUMN auto_assign TEXT REFERENCES pools (id);
CREATE INDEX projects_by_auto_assign ON projects (auto_assign) WHERE auto_assign IS NOT NULL;
