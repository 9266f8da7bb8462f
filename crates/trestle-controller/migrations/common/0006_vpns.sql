-- Cloudpipe: the VPNs that lead into projects' networks, and who may come in by them.

-- A project has one at most. Its instance and interface are rows like any other's.
CREATE TABLE vpns (
    project TEXT NOT NULL PRIMARY KEY REFERENCES projects (id),
    instance TEXT NOT NULL UNIQUE REFERENCES instances (id),
    interface TEXT NOT NULL UNIQUE REFERENCES interfaces (id),
    kind TEXT NOT NULL CHECK (kind IN ('openvpn', 'wireguard')),
    -- Its own; the interface's others are its users'.
    address TEXT NOT NULL UNIQUE REFERENCES fixed_ips (address),
    -- Where clients send to.
    ip TEXT NOT NULL,
    port BIGINT NOT NULL CHECK (port BETWEEN 1 AND 65535),
    -- The same address, if that is a floating IP of the project's.
    floating_ip TEXT REFERENCES floating_ips (address),
    -- 1 if it was reserved for the VPN and goes with it, else 0.
    came_with_it BIGINT NOT NULL CHECK (came_with_it IN (0, 1)),
    -- The number of its keys: others have another.
    identity TEXT NOT NULL UNIQUE,
    -- What it shows its clients, and what they are signed by: PEM.
    ca_certificate TEXT,
    ca_begins_at BIGINT,
    ca_expires_at BIGINT,
    server_certificate TEXT,
    server_begins_at BIGINT,
    server_expires_at BIGINT,
    -- The same of WireGuard: base64.
    public_key TEXT UNIQUE,
    -- The revision that changed it last.
    generation BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    UNIQUE (ip, port),
    CHECK (floating_ip = ip),
    CHECK (came_with_it = 0 OR floating_ip IS NOT NULL),
    CHECK ((kind = 'wireguard') = (public_key IS NOT NULL)),
    CHECK ((kind = 'openvpn') = (ca_certificate IS NOT NULL)),
    CHECK ((ca_certificate IS NULL) = (server_certificate IS NULL)),
    CHECK ((ca_certificate IS NULL) = (ca_begins_at IS NULL) AND (ca_certificate IS NULL) = (ca_expires_at IS NULL)),
    CHECK ((server_certificate IS NULL) = (server_begins_at IS NULL)
           AND (server_certificate IS NULL) = (server_expires_at IS NULL))
);
CREATE INDEX vpns_by_floating_ip ON vpns (floating_ip) WHERE floating_ip IS NOT NULL;

-- Private keys, encrypted with the controllers' own, which is in no database.
CREATE TABLE vpn_secrets (
    project TEXT NOT NULL REFERENCES vpns (project) ON DELETE CASCADE,
    -- `ca_key`, `server_key`, `tls_crypt` or `wireguard_key`.
    purpose TEXT NOT NULL,
    -- Stands for the key that it is encrypted with.
    key_id TEXT NOT NULL,
    -- Nonce, ciphertext and tag in base64.
    sealed TEXT NOT NULL,
    PRIMARY KEY (project, purpose)
);

-- What a user shows is told once and not kept; this is how it is known again.
CREATE TABLE vpn_users (
    project TEXT NOT NULL REFERENCES vpns (project) ON DELETE CASCADE,
    name TEXT NOT NULL,
    address TEXT NOT NULL UNIQUE REFERENCES fixed_ips (address),
    -- The certificate's common name; another certificate or key has another.
    credential TEXT NOT NULL UNIQUE,
    -- The certificate's number, in hex.
    serial TEXT,
    -- WireGuard's, in base64.
    public_key TEXT UNIQUE,
    -- 1 while hosts let it in, 0 when it has ended.
    admitted BIGINT NOT NULL CHECK (admitted IN (0, 1)),
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (project, name),
    CHECK ((serial IS NULL) <> (public_key IS NULL))
);
CREATE INDEX vpn_users_by_end ON vpn_users (expires_at) WHERE admitted = 1;

-- Who is connected to the VPNs on a host, as the host said it last.
CREATE TABLE observed_vpn_connections (
    host TEXT NOT NULL REFERENCES hosts (id),
    -- The name of the VPN's instance.
    vpn TEXT NOT NULL,
    credential TEXT NOT NULL,
    remote TEXT NOT NULL,
    since BIGINT NOT NULL,
    received_bytes BIGINT NOT NULL,
    sent_bytes BIGINT NOT NULL,
    PRIMARY KEY (host, vpn, credential)
);
