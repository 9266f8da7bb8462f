-- The tables, in SQL that SQLite and PostgreSQL both take: TEXT and BIGINT only. Ids are UUIDs as
-- text, times microseconds since 1970, IPv4 addresses numbers, so that ranges and order compare.
-- Intent and what hosts say (observed_*) are separate: a report never edits intent.

-- One row. Every writer raises it first, so that writers take turns on both databases.
CREATE TABLE revision (
    only_row BIGINT NOT NULL PRIMARY KEY CHECK (only_row = 1),
    value BIGINT NOT NULL
);
INSERT INTO revision (only_row, value) VALUES (1, 0);

CREATE TABLE projects (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    created_at BIGINT NOT NULL
);

CREATE TABLE hosts (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    flat_interface TEXT,
    public_interface TEXT,
    created_at BIGINT NOT NULL
);

CREATE TABLE networks (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    network_type TEXT NOT NULL,
    project TEXT REFERENCES projects (id),
    cidr TEXT NOT NULL,
    first_address BIGINT NOT NULL,
    last_address BIGINT NOT NULL,
    gateway BIGINT NOT NULL,
    dhcp_start BIGINT NOT NULL,
    -- The first address that was never given out unasked; NULL when all were.
    next_address BIGINT,
    bridge TEXT NOT NULL UNIQUE,
    bridge_interface TEXT,
    bridge_mac TEXT NOT NULL UNIQUE,
    dns TEXT NOT NULL,
    domain TEXT NOT NULL,
    mtu BIGINT NOT NULL,
    dhcp_lease_time BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    CHECK (first_address < last_address),
    CHECK (gateway > first_address AND gateway < last_address),
    CHECK (dhcp_start > first_address AND dhcp_start < last_address)
);
CREATE INDEX networks_by_project ON networks (project);

CREATE TABLE instances (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    project TEXT NOT NULL REFERENCES projects (id),
    created_at BIGINT NOT NULL,
    UNIQUE (project, name)
);
CREATE INDEX instances_by_name ON instances (name);

CREATE TABLE interfaces (
    id TEXT NOT NULL PRIMARY KEY,
    instance TEXT NOT NULL REFERENCES instances (id),
    network TEXT NOT NULL REFERENCES networks (id),
    mac TEXT NOT NULL UNIQUE,
    device TEXT NOT NULL UNIQUE,
    hostname TEXT NOT NULL,
    -- Where it is plugged in; the plug as JSON.
    host TEXT REFERENCES hosts (id),
    plug TEXT,
    -- Where it was plugged in last, and the revision at which it was plugged in or out.
    last_host TEXT,
    generation BIGINT,
    UNIQUE (network, hostname),
    CHECK ((host IS NULL) = (plug IS NULL))
);
CREATE INDEX interfaces_by_instance ON interfaces (instance);
CREATE INDEX interfaces_by_host ON interfaces (host, network) WHERE host IS NOT NULL;

-- A row from the first use of an address on. The primary key is what keeps an address from
-- being given out twice.
CREATE TABLE fixed_ips (
    address BIGINT NOT NULL PRIMARY KEY,
    network TEXT NOT NULL REFERENCES networks (id),
    interface TEXT REFERENCES interfaces (id),
    released_at BIGINT,
    -- The host that may still serve it, and the generation at which it does not any more, unless
    -- it has a problem with one of these keys.
    released_host TEXT,
    released_generation BIGINT,
    link_key TEXT,
    dhcp_host_key TEXT,
    lease_key TEXT,
    CHECK ((interface IS NULL) = (released_at IS NOT NULL))
);
CREATE INDEX fixed_ips_by_interface ON fixed_ips (interface) WHERE interface IS NOT NULL;
CREATE INDEX fixed_ips_released ON fixed_ips (network, released_at, address) WHERE interface IS NULL;

CREATE TABLE tokens (
    id TEXT NOT NULL PRIMARY KEY,
    -- SHA-256 of the secret, in hex.
    hash TEXT NOT NULL UNIQUE,
    role TEXT NOT NULL,
    project TEXT REFERENCES projects (id),
    host TEXT REFERENCES hosts (id),
    description TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE observed_hosts (
    host TEXT NOT NULL PRIMARY KEY REFERENCES hosts (id),
    last_seen BIGINT NOT NULL,
    generation_applied BIGINT NOT NULL,
    agent_version TEXT NOT NULL,
    kernel TEXT NOT NULL,
    -- SHA-256 of the last report's problems and leases: the same again needs no comparing.
    digest TEXT NOT NULL
);

CREATE TABLE observed_problems (
    host TEXT NOT NULL REFERENCES hosts (id),
    key TEXT NOT NULL,
    -- The whole problem as JSON.
    problem TEXT NOT NULL,
    PRIMARY KEY (host, key, problem)
);

CREATE TABLE observed_leases (
    host TEXT NOT NULL REFERENCES hosts (id),
    address BIGINT NOT NULL,
    mac TEXT NOT NULL,
    PRIMARY KEY (host, address, mac)
);
CREATE INDEX observed_leases_by_address ON observed_leases (address);
