//! Which records the agent wants to be woken by: the value of the map that it says so in, which a wake-up sets back.
//!
//! An agent of another build knows no [`UNTIL_URGENT`], and programs of another build take it for [`UNTIL_ANY`]: they
//! wake more often than they need to.

/// By none: it is awake, or comes back soon by itself.
pub const NOT: u32 = 0;
/// By the next one.
pub const UNTIL_ANY: u32 = 1;
/// By the next one that somebody may wait for. For the others it comes back by itself.
pub const UNTIL_URGENT: u32 = 2;
