//! Records as the ring could never hold them: every byte of them may be anything. Nothing may panic, from the record
//! to the call.
//!
//! An input is a list of records, each with its length in two bytes before it.

use apiward::call::{Calls, Limits, Options};
use apiward::capture::intake::Intake;
use apiward::capture::{Captured, KernelTime};
use apiward::flow::{self, Flows};

/// One input.
pub fn run(data: &[u8]) {
    calls(data);
}

/// One input; returns how many calls it held.
pub fn calls(data: &[u8]) -> u64 {
    let mut intake = Intake::new([]);
    let mut flows = Flows::new(flow::Limits {
        flows_max: 8,
        ..flow::Limits::default()
    });
    let mut calls = Calls::new(Options {
        limits: Limits {
            flows_max: 8,
            ..Limits::default()
        },
        key: [1; 32],
        boot_id: [2; 16],
        earning: Default::default(),
        literals: Vec::new(),
    });
    let mut rest = data;
    while let [low, high, later @ ..] = rest {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(later.len());
        let (record, later) = later.split_at(length);
        rest = later;
        let mut take = |captured| flows.on(captured, &mut |item| calls.on(item, &mut |_, _| {}));
        let before = intake.reached();
        intake.on(record, &mut take, &mut |_| {});
        assert!(intake.reached() >= before, "time went back");
    }
    flows.on(
        Captured::Tick {
            at: KernelTime(u64::MAX),
        },
        &mut |item| calls.on(item, &mut |_, _| {}),
    );
    assert!(flows.stats().flows_open <= 8);
    assert!(flows.take_losses().len() <= flow::Limits::default().losses_max + 8);
    calls.stats().calls
}
