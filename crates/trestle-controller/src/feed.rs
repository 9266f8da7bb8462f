//! What each host must have, kept current by following the change log.
