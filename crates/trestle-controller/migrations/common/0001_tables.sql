-- The tables, in SQL that SQLite and PostgreSQL both take: TEXT and BIGINT only. Ids are UUIDs as
-- text, times microseconds since 1970. Addresses are text that sorts as they do: `4` and 8 hex
-- digits, or `6` and 32. Lists are JSON.
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
    -- How much it may have: NULL is what the controller's option says, -1 is no limit.
    quota_networks BIGINT CHECK (quota_networks >= -1),
    quota_fixed_ips BIGINT CHECK (quota_fixed_ips >= -1),
    quota_floating_ips BIGINT CHECK (quota_floating_ips >= -1),
    created_at BIGINT NOT NULL
);

CREATE TABLE hosts (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    flat_interface TEXT,
    vlan_interface TEXT,
    public_interface TEXT,
    -- Under which address what has no floating IP leaves by it: `device`, `none` or an IPv4 address.
    routing_source_ip TEXT NOT NULL,
    -- 1 if it may be chosen to route for single-host networks, else 0.
    gateway BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE networks (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    network_type TEXT NOT NULL,
    -- Without one it is shared, or, of type `vlan`, free.
    project TEXT REFERENCES projects (id),
    vlan BIGINT UNIQUE CHECK (vlan BETWEEN 1 AND 4094),
    multi_host BIGINT NOT NULL,
    share_address BIGINT NOT NULL,
    gateway_host TEXT REFERENCES hosts (id),
    ipv6_mode TEXT NOT NULL,
    bridge TEXT NOT NULL UNIQUE,
    bridge_interface TEXT,
    bridge_mac TEXT NOT NULL UNIQUE,
    dns TEXT NOT NULL,
    domain TEXT NOT NULL,
    mtu BIGINT NOT NULL,
    dhcp_lease_time BIGINT NOT NULL,
    dhcp_options TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    CHECK ((network_type = 'vlan') = (vlan IS NOT NULL)),
    CHECK (multi_host = 1 OR share_address = 0),
    CHECK (multi_host = 0 OR gateway_host IS NULL)
);
CREATE INDEX networks_by_project ON networks (project);
CREATE INDEX networks_by_gateway ON networks (gateway_host) WHERE gateway_host IS NOT NULL;
CREATE INDEX networks_free ON networks (vlan) WHERE project IS NULL AND vlan IS NOT NULL;

-- A network's addresses in one family. No two overlap: see 0002.
CREATE TABLE subnets (
    network TEXT NOT NULL REFERENCES networks (id) ON DELETE CASCADE,
    family BIGINT NOT NULL CHECK (family IN (4, 6)),
    cidr TEXT NOT NULL,
    first_address TEXT NOT NULL UNIQUE,
    last_address TEXT NOT NULL,
    gateway TEXT,
    vpn TEXT,
    allowed_first TEXT NOT NULL,
    allowed_last TEXT NOT NULL,
    dhcp_start TEXT NOT NULL,
    -- No address from here on was ever given out unasked; NULL when all were.
    next_address TEXT,
    PRIMARY KEY (network, family),
    CHECK (first_address < last_address),
    CHECK (gateway > first_address AND gateway <= last_address),
    CHECK (vpn > first_address AND vpn <= last_address),
    CHECK (allowed_first > first_address AND allowed_first <= allowed_last AND allowed_last <= last_address),
    CHECK (dhcp_start >= allowed_first AND dhcp_start <= allowed_last),
    CHECK (next_address >= dhcp_start AND next_address <= allowed_last)
);

-- Addresses of a network that no instance is given; the reason is a JSON string.
CREATE TABLE reserved_ranges (
    network TEXT NOT NULL REFERENCES networks (id) ON DELETE CASCADE,
    first_address TEXT NOT NULL,
    last_address TEXT NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (network, first_address),
    CHECK (first_address <= last_address)
);

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
    -- Where it is about to be plugged in instead.
    next_host TEXT REFERENCES hosts (id),
    next_plug TEXT,
    -- Where it was plugged in last, and the revision at which it was plugged in or out.
    last_host TEXT,
    generation BIGINT,
    UNIQUE (network, hostname),
    CHECK ((host IS NULL) = (plug IS NULL)),
    CHECK ((next_host IS NULL) = (next_plug IS NULL)),
    CHECK (next_host IS NULL OR (host IS NOT NULL AND next_host <> host))
);
CREATE INDEX interfaces_by_instance ON interfaces (instance);
CREATE INDEX interfaces_by_host ON interfaces (host, network) WHERE host IS NOT NULL;
CREATE INDEX interfaces_by_next_host ON interfaces (next_host, network) WHERE next_host IS NOT NULL;

-- Every host that ever served an interface's addresses, by a device of it or as its network's one
-- gateway, and the revision that last began or ended that.
CREATE TABLE interface_hosts (
    interface TEXT NOT NULL REFERENCES interfaces (id) ON DELETE CASCADE,
    host TEXT NOT NULL,
    generation BIGINT NOT NULL,
    PRIMARY KEY (interface, host)
);

-- A row from the first use of an address on. The primary key is what keeps an address from
-- being given out twice.
CREATE TABLE fixed_ips (
    address TEXT NOT NULL PRIMARY KEY,
    network TEXT NOT NULL REFERENCES networks (id),
    -- Who has it: an interface, or a host that routes for the network by an address of its own.
    interface TEXT REFERENCES interfaces (id),
    host TEXT REFERENCES hosts (id),
    released_at BIGINT,
    CHECK (CASE WHEN interface IS NULL THEN 0 ELSE 1 END + CASE WHEN host IS NULL THEN 0 ELSE 1 END
           + CASE WHEN released_at IS NULL THEN 0 ELSE 1 END = 1)
);
CREATE INDEX fixed_ips_by_interface ON fixed_ips (interface) WHERE interface IS NOT NULL;
CREATE INDEX fixed_ips_by_host ON fixed_ips (network, host) WHERE host IS NOT NULL;
CREATE INDEX fixed_ips_released ON fixed_ips (network, released_at, address) WHERE released_at IS NOT NULL;

-- The hosts that may still serve a released address, each with the generation at which it does not
-- any more, unless it has a problem with one of these keys.
CREATE TABLE releases (
    address TEXT NOT NULL REFERENCES fixed_ips (address) ON DELETE CASCADE,
    host TEXT NOT NULL,
    generation BIGINT NOT NULL,
    link_key TEXT NOT NULL,
    entry_key TEXT NOT NULL,
    lease_key TEXT NOT NULL,
    PRIMARY KEY (address, host)
);

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
    missing_features TEXT NOT NULL,
    agent_problems TEXT NOT NULL,
    -- The names of its devices, those that Trestle makes aside.
    devices TEXT NOT NULL,
    -- The addresses that it has for itself.
    addresses TEXT NOT NULL,
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
    address TEXT NOT NULL,
    mac TEXT NOT NULL,
    PRIMARY KEY (host, address, mac)
);
CREATE INDEX observed_leases_by_address ON observed_leases (address);
