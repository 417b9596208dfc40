//! Both sides over loopback with the market on the dev chain: normal life, and each side against one that cheats.

mod against_a_buyer;
mod against_a_provider;
mod life;
mod runtime;
mod world;
