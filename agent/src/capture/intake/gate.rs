//! What the gate in the kernel says: of requests that it has stopped.

use std::sync::Arc;

use apiward_common::flow::tls as tls_state;
use apiward_common::owner::Owner;
use apiward_common::record::{self, role, stopped};

use super::{Flow, Intake, address};
use crate::capture::stopped::{Told, has_socket};
use crate::capture::{
    Captured, Decision, Direction, FlowId, FlowInfo, Hook, KernelTime, Process, SocketRole, Stopped,
};

impl Intake {
    /// The gate speaks: of a head that is not whole yet, or of a request that it has stopped.
    pub(super) fn stopped(
        &mut self,
        at: KernelTime,
        record: &record::Stopped,
        piece: &[u8],
        out: &mut dyn FnMut(Captured),
    ) -> Option<()> {
        Hook::from_number(record.hook)?;
        if record.what == stopped::PARTS {
            let flow = FlowId::Socket(record.cookie);
            out(Captured::Parted { at, flow });
            return Some(());
        }
        let Some((ground, head)) = self.heads.take(record, piece) else {
            return Some(());
        };
        let told = Told {
            at,
            record: *record,
            ground,
            head,
        };
        if !has_socket(record) {
            // Most handshakes end all the same, by a segment of the client's that has no payload.
            out(Captured::Knocked {
                at,
                flow: Arc::new(flow_of_stopped(record)?),
                process: self.process_of_record(record),
            });
            return match self.early.hold(told) {
                Some(oldest) => self.tell_stopped(oldest, out),
                None => Some(()),
            };
        }
        let told = self.early.established(told);
        self.tell_stopped(told, out)
    }

    /// Time has passed: what was stopped in a handshake that has not ended since is told as that, and what was written by an
    /// object without a socket as that one's. With `None`, all of it.
    pub fn tick(&mut self, at: Option<KernelTime>, out: &mut dyn FnMut(Captured)) {
        self.unsure_due(at, out);
        while let Some(told) = self.early.due(at) {
            if self.tell_stopped(told, out).is_none() {
                self.stats.records_invalid += 1;
            }
        }
    }

    fn process_of_record(&mut self, record: &record::Stopped) -> Arc<Process> {
        self.process_of(&Owner {
            cgroup: record.cgroup,
            pid: record.pid,
            uid: record.uid,
            comm: record.comm,
            ..Owner::default()
        })
    }

    fn tell_stopped(&mut self, told: Told, out: &mut dyn FnMut(Captured)) -> Option<()> {
        let Told {
            at,
            record,
            ground,
            head,
        } = told;
        let record = &record;
        let hook = Hook::from_number(record.hook)?;
        let mut process = self.process_of_record(record);
        let flow = match record.object {
            0 => match self.flows.get(&record.cookie) {
                Some(known) => {
                    process = known.process.clone();
                    known.info.clone()
                }
                None => {
                    let info = Arc::new(flow_of_stopped(record)?);
                    if self.flows.len() >= self.flows_max {
                        self.make_room();
                    }
                    let flow = Flow {
                        tls: tls_state::CLEAR,
                        info: info.clone(),
                        process: process.clone(),
                        objects: Vec::new(),
                        ended: false,
                    };
                    if has_socket(record) {
                        self.flows.insert(record.cookie, flow);
                    }
                    out(Captured::Flow(info.clone()));
                    info
                }
            },
            object => {
                let id = FlowId::Tls {
                    pid: record.pid,
                    object,
                    generation: record.object_generation,
                };
                self.objects.get(&id)?.info.clone()
            }
        };
        let direction = match hook {
            Hook::Ingress | Hook::TlsRead => Direction::Received,
            Hook::Egress | Hook::TlsWrite => Direction::Sent,
        };
        out(Captured::Stopped(Stopped {
            at,
            flow,
            process,
            direction,
            position: u64::from(record.head_start),
            head,
            decision: Decision {
                generation: record.generation,
                rule: record.rule,
                ground,
                hook,
                refused: record.refused != 0,
                earlier: record.heads,
                collateral: record.collateral,
            },
        }));
        Some(())
    }
}

/// No process has used the connection yet: the record says what there is to know.
fn flow_of_stopped(record: &record::Stopped) -> Option<FlowInfo> {
    Some(FlowInfo {
        id: FlowId::Socket(record.cookie),
        // Where there is no socket yet, it is the listener's, marked.
        carrier: has_socket(record).then_some(record.cookie),
        local: Some(address(record.family, record.local, record.local_port)?),
        remote: Some(address(record.family, record.remote, record.remote_port)?),
        role: match record.role {
            role::CLIENT => SocketRole::Client,
            role::SERVER => SocketRole::Server,
            _ => SocketRole::Unknown,
        },
        netns: record.netns,
        tls: None,
        joined_late: false,
        starts: None,
        enforceable: true,
    })
}
