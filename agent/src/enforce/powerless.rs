//! A gate with no kernel behind it, for benches and fuzz targets: whatever it is to act on is gone.
//!
//! It must not be what an agent runs with.

use super::{Egress, FlowGate, GateError};
use crate::call::CallId;
use crate::capture::{FlowInfo, KernelTime, Process};

/// Does nothing, and says so.
#[derive(Clone, Copy, Debug, Default)]
pub struct Powerless;

impl FlowGate for Powerless {
    fn withhold(&mut self, _: u64, _: Option<u32>) -> Result<(), GateError> {
        Err(GateError::Gone)
    }

    fn release(&mut self, _: u64) {}

    fn egress(&mut self, _: u64) -> Option<Egress> {
        None
    }

    fn destroy(&mut self, _: &FlowInfo, _: u64) -> Result<(), GateError> {
        Err(GateError::Gone)
    }

    fn answer(&mut self, _: &FlowInfo, _: &Process, _: CallId) -> Result<u32, GateError> {
        Err(GateError::Gone)
    }

    fn hurry(&mut self, _: &FlowInfo, _: &Process, _: u64) -> Result<bool, GateError> {
        Err(GateError::Gone)
    }

    fn accepted(&mut self, _: &FlowInfo) -> Option<u32> {
        None
    }

    fn kill(&mut self, _: &Process, _: KernelTime) -> Result<(), GateError> {
        Err(GateError::Gone)
    }
}
