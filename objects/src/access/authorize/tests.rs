//! Decisions: a table of known cases, and properties over random policies.
