//! Users and access keys.
