//! The gateway over loopback, with a real store on memory and requests made by hand.

mod gateway {
    pub(crate) mod bad_input;
    pub(crate) mod bodies;
    pub(crate) mod browsers;
    pub(crate) mod lifecycle;
    pub(crate) mod limits;
    pub(crate) mod listings;
    pub(crate) mod locks;
    pub(crate) mod objects;
    pub(crate) mod policies;
    pub(crate) mod receipts;
    pub(crate) mod wire;
    pub(crate) mod world;
}
