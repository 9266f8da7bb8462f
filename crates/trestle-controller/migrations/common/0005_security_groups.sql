-- Security groups with their rules, address groups, and what interfaces are held to.

-- The last number given to a thing of each kind. Hosts call things by them, so none is given twice.
CREATE TABLE numbers (
    kind TEXT NOT NULL PRIMARY KEY,
    last BIGINT NOT NULL CHECK (last BETWEEN 0 AND 4294967295)
);

-- The one called `default` is made with its project and goes with it.
CREATE TABLE security_groups (
    id TEXT NOT NULL PRIMARY KEY,
    number BIGINT NOT NULL UNIQUE,
    project TEXT NOT NULL REFERENCES projects (id),
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    UNIQUE (project, name)
);
CREATE INDEX security_groups_by_name ON security_groups (name);

CREATE TABLE address_groups (
    id TEXT NOT NULL PRIMARY KEY,
    number BIGINT NOT NULL UNIQUE,
    project TEXT NOT NULL REFERENCES projects (id),
    name TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    UNIQUE (project, name)
);
CREATE INDEX address_groups_by_name ON address_groups (name);

-- No two of a group overlap: they are put together before they are kept.
CREATE TABLE address_group_ranges (
    address_group TEXT NOT NULL REFERENCES address_groups (id) ON DELETE CASCADE,
    cidr TEXT NOT NULL,
    PRIMARY KEY (address_group, cidr)
);

CREATE TABLE security_group_rules (
    id TEXT NOT NULL PRIMARY KEY,
    number BIGINT NOT NULL UNIQUE,
    security_group TEXT NOT NULL REFERENCES security_groups (id),
    direction TEXT NOT NULL CHECK (direction IN ('ingress', 'egress')),
    family BIGINT CHECK (family IN (4, 6)),
    protocol BIGINT CHECK (protocol BETWEEN 1 AND 254),
    first_port BIGINT CHECK (first_port BETWEEN 1 AND 65535),
    last_port BIGINT CHECK (last_port BETWEEN 1 AND 65535),
    icmp_type BIGINT CHECK (icmp_type BETWEEN 0 AND 255),
    icmp_code BIGINT CHECK (icmp_code BETWEEN 0 AND 255),
    -- Who is at the other end; anybody if none of these is given.
    remote_cidr TEXT,
    remote_group TEXT REFERENCES security_groups (id),
    remote_address_group TEXT REFERENCES address_groups (id),
    expires_at BIGINT,
    created_at BIGINT NOT NULL,
    CHECK ((first_port IS NULL) = (last_port IS NULL)),
    CHECK (first_port <= last_port),
    CHECK (first_port IS NULL OR (protocol IS NOT NULL AND protocol IN (6, 17, 132))),
    CHECK (icmp_type IS NULL OR (protocol IS NOT NULL AND protocol IN (1, 58))),
    CHECK (icmp_code IS NULL OR icmp_type IS NOT NULL),
    CHECK (CASE WHEN remote_cidr IS NULL THEN 0 ELSE 1 END + CASE WHEN remote_group IS NULL THEN 0 ELSE 1 END
           + CASE WHEN remote_address_group IS NULL THEN 0 ELSE 1 END <= 1)
);
-- Two rules that allow the same are one, whenever they end.
CREATE UNIQUE INDEX security_group_rules_once ON security_group_rules (
    security_group, direction, COALESCE(family, 0), COALESCE(protocol, 0), COALESCE(first_port, 0),
    COALESCE(last_port, 0), COALESCE(icmp_type, -1), COALESCE(icmp_code, -1), COALESCE(remote_cidr, ''),
    COALESCE(remote_group, ''), COALESCE(remote_address_group, ''));
CREATE INDEX security_group_rules_by_remote ON security_group_rules (remote_group) WHERE remote_group IS NOT NULL;
CREATE INDEX security_group_rules_by_addresses ON security_group_rules (remote_address_group)
    WHERE remote_address_group IS NOT NULL;
CREATE INDEX security_group_rules_by_end ON security_group_rules (expires_at) WHERE expires_at IS NOT NULL;

-- 1 if the interface is guarded and held to its groups, else 0: then everything passes.
ALTER TABLE interfaces ADD COLUMN port_security BIGINT NOT NULL DEFAULT 1 CHECK (port_security IN (0, 1));

CREATE TABLE interface_security_groups (
    interface TEXT NOT NULL REFERENCES interfaces (id) ON DELETE CASCADE,
    security_group TEXT NOT NULL REFERENCES security_groups (id),
    PRIMARY KEY (interface, security_group)
);
CREATE INDEX interface_security_groups_by_group ON interface_security_groups (security_group);

-- What an interface may send from besides its own addresses: `10.9.0.0/16`, or with `,` and a MAC.
CREATE TABLE interface_address_pairs (
    interface TEXT NOT NULL REFERENCES interfaces (id) ON DELETE CASCADE,
    pair TEXT NOT NULL,
    PRIMARY KEY (interface, pair)
);

-- What guests may send besides IPv4, ARP and IPv6, as a JSON list.
ALTER TABLE networks ADD COLUMN ether_types TEXT NOT NULL DEFAULT '[]';

ALTER TABLE projects ADD COLUMN quota_security_groups BIGINT CHECK (quota_security_groups >= -1);
-- In each of its groups.
ALTER TABLE projects ADD COLUMN quota_security_group_rules BIGINT CHECK (quota_security_group_rules >= -1);

-- What a rule has let pass on a host, as the host said it last.
CREATE TABLE observed_rule_counters (
    host TEXT NOT NULL REFERENCES hosts (id),
    rule BIGINT NOT NULL REFERENCES security_group_rules (number) ON DELETE CASCADE,
    packets BIGINT NOT NULL,
    bytes BIGINT NOT NULL,
    PRIMARY KEY (host, rule)
);
CREATE INDEX observed_rule_counters_by_rule ON observed_rule_counters (rule);

-- Projects that are there get their group, and their interfaces are in it. The group has the project's
-- id; those of its two rules differ from that in the version, which is 7 in all others.
INSERT INTO security_groups (id, number, project, name, description, created_at)
SELECT id, ROW_NUMBER() OVER (ORDER BY id), id, 'default', '', created_at FROM projects;

INSERT INTO security_group_rules (id, number, security_group, direction, remote_group, created_at)
SELECT substr(id, 1, 14) || '8' || substr(id, 16), 2 * number - 1, id, 'ingress', id, created_at
FROM security_groups;

INSERT INTO security_group_rules (id, number, security_group, direction, created_at)
SELECT substr(id, 1, 14) || '9' || substr(id, 16), 2 * number, id, 'egress', created_at
FROM security_groups;

INSERT INTO interface_security_groups (interface, security_group)
SELECT i.id, v.project FROM interfaces i JOIN instances v ON v.id = i.instance;

INSERT INTO numbers (kind, last)
SELECT 'security_group', COUNT(*) FROM security_groups
UNION ALL SELECT 'security_group_rule', COUNT(*) FROM security_group_rules
UNION ALL SELECT 'address_group', 0;
