//! trestle-agent
