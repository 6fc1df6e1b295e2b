//! Personal data: what kinds a call carries, where, how often, and what the finding rests on. Never a value.
//!
//! `class` is the registry, each file of `detectors` a class with its examples; `scan` takes the values of a body in,
//! `keys`, `fhir`, `segments` say what a place means, and `text` what a value looks like by itself. Everything is linear
//! in the body, with tables built once. It must not know calls: bytes in, [`Data`](crate::call::Data) out.

mod checks;
pub mod class;
mod detectors;
mod fhir;
mod hits;
mod keys;
mod reference;
mod scan;
mod segments;
mod settings;
mod text;

pub use self::class::{Class, DETECTORS, Detector, Group};
pub use self::reference::render;
pub use self::scan::Scanner;
pub use self::settings::{Pattern, PhiSettings};

#[cfg(test)]
mod tests;
