//! trestle-controller
