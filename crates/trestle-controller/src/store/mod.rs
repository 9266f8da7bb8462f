//! The store: everything the controller keeps, in SQLite or PostgreSQL.
