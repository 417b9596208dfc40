//! Policies: what reads, what is refused, and what is public.
