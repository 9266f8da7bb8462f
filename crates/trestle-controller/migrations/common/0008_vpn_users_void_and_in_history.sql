-- 1 if what a user shows ended before its time: the authority that signed it is another now.
ALTER TABLE vpn_users ADD COLUMN void BIGINT NOT NULL DEFAULT 0 CHECK (void IN (0, 1));

-- Whose the address was of those who come in by the VPN that had it.
ALTER TABLE address_history ADD COLUMN vpn_user TEXT;
