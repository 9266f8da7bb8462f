//! The REST API over [`crate::app`].
