//! Ended calls and the agent's own state → events on their way out: collector, OpenTelemetry, JSON lines.
//!
//! Only `wire` and its siblings touch the generated types. Kernel time becomes wall-clock time here, once.

pub mod clock;
pub mod spool;
pub mod wire;
