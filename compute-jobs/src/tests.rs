//! Jobs as a whole: a seeded simulation of everything that can die, and real stores.

mod simulation;
mod stand_ins;
mod stored;
mod submissions;
