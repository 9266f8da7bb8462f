//! trestle-lab
