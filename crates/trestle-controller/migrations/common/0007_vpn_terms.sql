-- For how many days a user is let in, where somebody said so: another file is for as many.
ALTER TABLE vpn_users ADD COLUMN days BIGINT CHECK (days >= 1);
