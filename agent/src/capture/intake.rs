//! Records as the kernel wrote them → [`Captured`]. Bytes from the ring are taken field by field, never cast; what
//! is not understood is counted and dropped.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use apiward_common::flow::tls as tls_state;
use apiward_common::owner::Owner;
use apiward_common::record::{
    self, Data, FlowClose, FlowOpen, HANDSHAKE, Header, Mapped, ProcessChange, Reader, SENT, TLS, TlsBind,
    TlsClose, kind, missing, role,
};
use apiward_common::scope::FileKey;
use bytes::Bytes;
use hashbrown::HashMap;
use smol_str::SmolStr;

use super::processes::{Processes, Task, path_from_components};
use super::stopped::{Early, Heads};
use super::{
    Captured, Direction, FlowEnd, FlowId, FlowInfo, GapReason, KernelTime, Process, Segment, SocketRole,
    TlsInfo,
};

/// Flows known at once unless [`Intake::set_flows_max`] says otherwise; TLS objects too.
const FLOWS_MAX: usize = apiward_common::limits::FLOWS_MAX as usize;
/// Executables whose unseen bytes are told apart.
const BLIND_MAX: usize = 1024;
/// How long a connection is known after an end that its last records may follow: as long as the next stage waits.
const ENDED_KEPT_NS: u64 = 1_000_000_000;
/// CPUs whose sequences are followed.
const CPUS_MAX: usize = 1024;

mod gate;
mod handshake;
mod notice;
mod unsure;

pub use notice::{Blind, BlindReason, Notice};

/// Counters since the start.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    pub records: u64,
    /// Records that made no sense.
    pub records_invalid: u64,
    /// Records that the kernel dropped.
    pub records_lost: u64,
    pub flows_evicted: u64,
}

/// A TLS object, from its first use on.
struct Object {
    info: Arc<FlowInfo>,
    /// Plaintext bytes sent and received until the library let go of it, if that came before its socket's end.
    ends: Option<(u64, u64)>,
    /// It has written, and no socket was used for it: said once.
    is_blind: bool,
}

/// A plaintext connection, or the TLS connection that carries objects.
struct Flow {
    info: Arc<FlowInfo>,
    process: Arc<Process>,
    /// Of `apiward_common::flow::tls`.
    tls: u8,
    /// TLS objects that this socket carries.
    objects: Vec<FlowId>,
    /// Its end was told; records of calls that were still returning may follow.
    ended: bool,
}

/// The object at an address in the process of a record.
fn tls_object(header: &Header, object: u64, generation: u32) -> FlowId {
    FlowId::Tls {
        pid: header.pid,
        object,
        generation,
    }
}

/// Turns records into what the next stage understands.
pub struct Intake {
    processes: Processes,
    flows: HashMap<u64, Flow>,
    /// Flows that have ended and are still known, and when they ended.
    ended: VecDeque<(KernelTime, u64)>,
    objects: HashMap<FlowId, Object>,
    heads: Heads,
    early: Early,
    unsure: unsure::Waiting,
    /// Local ports that something listened on at the start, by namespace: tells the role of older connections.
    listeners: std::collections::HashSet<(u32, u16)>,
    libraries: Vec<TlsInfo>,
    blind: HashMap<(SmolStr, BlindReason), Blind>,
    next_sequence: Vec<u64>,
    suspect: bool,
    reached: KernelTime,
    flows_max: usize,
    stats: Stats,
}

impl Intake {
    /// `listeners` are (network namespace, port) pairs as of now.
    pub fn new(listeners: impl IntoIterator<Item = (u32, u16)>) -> Self {
        Intake {
            processes: Processes::default(),
            flows: HashMap::new(),
            ended: VecDeque::new(),
            objects: HashMap::new(),
            heads: Heads::default(),
            early: Early::default(),
            unsure: unsure::Waiting::default(),
            listeners: listeners.into_iter().collect(),
            libraries: Vec::new(),
            blind: HashMap::new(),
            next_sequence: vec![0; CPUS_MAX],
            suspect: false,
            reached: KernelTime(0),
            flows_max: FLOWS_MAX,
            stats: Stats::default(),
        }
    }

    /// As many as the kernel side knows.
    pub fn set_flows_max(&mut self, flows_max: usize) {
        self.flows_max = flows_max;
    }

    /// What the loader's library number `index` stands for; numbers are given in order, from 1.
    pub fn set_libraries(&mut self, libraries: Vec<TlsInfo>) {
        self.libraries = libraries;
    }

    /// Counters since the start.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// What cannot be seen, by executable.
    pub fn blind(&self) -> impl Iterator<Item = (&(SmolStr, BlindReason), &Blind)> {
        self.blind.iter()
    }

    /// A sequence had a hole since the last call: the kernel's drop counters are worth a look.
    pub fn take_suspect(&mut self) -> bool {
        std::mem::take(&mut self.suspect)
    }

    /// When the last of the records that were taken was written. What comes later may lie in the ring.
    pub fn reached(&self) -> KernelTime {
        self.reached
    }

    /// The kernel's own count says that `records` were dropped since it was asked last.
    pub fn lost(&mut self, at: KernelTime, records: u64, out: &mut dyn FnMut(Captured)) {
        self.stats.records_lost += records;
        out(Captured::Lost { at, records });
    }

    /// Takes one record.
    pub fn on(&mut self, record: &[u8], out: &mut dyn FnMut(Captured), notice: &mut dyn FnMut(Notice)) {
        self.stats.records += 1;
        if self.read(record, out, notice).is_none() {
            self.stats.records_invalid += 1;
        }
    }

    fn read(
        &mut self,
        record: &[u8],
        out: &mut dyn FnMut(Captured),
        notice: &mut dyn FnMut(Notice),
    ) -> Option<()> {
        let mut reader = Reader::new(record);
        let header = Header::read(&mut reader)?;
        self.follow(&header);
        let at = KernelTime(header.at);
        self.reached = self.reached.max(at);
        self.forget_ended(at);
        self.unsure_due(Some(at), out);
        match header.kind {
            kind::DATA => {
                let data = Data::read(&mut reader)?;
                let payload = reader.take(header.payload_bytes as usize)?;
                if !self.holds(&header, &data, payload, out) {
                    self.data(&header, &data, payload, out)?;
                }
            }
            kind::FLOW_OPEN => {
                let open = FlowOpen::read(&mut reader)?;
                self.open(&header, &open, out, notice)?;
            }
            kind::FLOW_CLOSE => self.close(at, &FlowClose::read(&mut reader)?, out, notice),
            kind::TLS_BIND => self.bind(&header, &TlsBind::read(&mut reader)?, out),
            kind::TLS_CLOSE => {
                let close = TlsClose::read(&mut reader)?;
                let id = tls_object(&header, close.object, close.generation);
                self.goes_on(&header, Some(id), 0, out);
                self.tls_close(&header, id, &close, out);
            }
            kind::MAPPED => {
                let mapped = Mapped::read(&mut reader)?;
                let name = reader.take(header.payload_bytes as usize)?;
                let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
                notice(Notice::Mapped {
                    at,
                    pid: header.pid,
                    file: FileKey {
                        inode: mapped.inode,
                        device: mapped.device,
                        reserved: 0,
                    },
                    name: SmolStr::new(String::from_utf8_lossy(name)),
                });
            }
            kind::EXEC => {
                // It was another program that wrote.
                self.goes_on(&header, None, 0, out);
                let change = ProcessChange::read(&mut reader)?;
                let mut exe = path_from_components(reader.take(header.payload_bytes as usize)?);
                if change.truncated != 0 {
                    let whole = self.processes_proc_exe(header.pid);
                    exe = if whole.is_empty() {
                        SmolStr::new(format!("…{exe}"))
                    } else {
                        whole
                    };
                }
                self.processes.executed(header.pid, exe);
                let file = FileKey {
                    inode: change.inode,
                    device: change.device,
                    reserved: 0,
                };
                let process = self.process(&header);
                notice(Notice::Executed { at, process, file });
            }
            kind::FORK => {
                let change = ProcessChange::read(&mut reader)?;
                self.processes.forked(header.pid, change.child);
            }
            kind::OWNER => {
                let owner = Owner::read(&mut reader)?;
                notice(Notice::Owner {
                    process: self.process_of(&owner),
                    identity: owner.identity(),
                });
            }
            kind::STOPPED => {
                let stopped = record::Stopped::read(&mut reader)?;
                let piece = reader.take(header.payload_bytes as usize)?;
                self.stopped(at, &stopped, piece, out)?;
            }
            kind::EXIT => {
                ProcessChange::read(&mut reader)?;
                self.processes.exited(header.pid, at);
            }
            _ => return None,
        }
        Some(())
    }

    fn processes_proc_exe(&mut self, pid: u32) -> SmolStr {
        std::fs::read_link(format!("/proc/{pid}/exe"))
            .map(|path| SmolStr::new(path.to_string_lossy()))
            .unwrap_or_default()
    }

    /// A preempted program may be overtaken by another on its CPU, so a hole is a suspicion, not a count.
    fn follow(&mut self, header: &Header) {
        if let Some(next) = self.next_sequence.get_mut(usize::from(header.cpu)) {
            if *next != 0 && header.sequence > *next {
                self.suspect = true;
            }
            *next = (*next).max(header.sequence.saturating_add(1));
        }
    }

    fn process(&mut self, header: &Header) -> Arc<Process> {
        self.processes.of(Task {
            pid: header.pid,
            tid: header.tid,
            uid: header.uid,
            cgroup: header.cgroup,
            comm: name(&header.comm),
        })
    }

    /// Whose socket it is.
    pub fn process_of(&mut self, owner: &Owner) -> Arc<Process> {
        self.processes.of(Task {
            pid: owner.pid,
            tid: owner.pid,
            uid: owner.uid,
            cgroup: owner.cgroup,
            comm: name(&owner.comm),
        })
    }

    fn data(
        &mut self,
        header: &Header,
        data: &Data,
        payload: &[u8],
        out: &mut dyn FnMut(Captured),
    ) -> Option<()> {
        let process = self.process(header);
        let missing_bytes = data.moved_bytes.checked_sub(payload.len() as u32)?;
        if data.flags & HANDSHAKE != 0 {
            self.handshake(KernelTime(header.at), data, process, payload, out);
            return Some(());
        }
        let flow = if data.flags & TLS != 0 {
            let id = tls_object(header, data.flow, data.generation);
            let has_written = data.flags & SENT != 0;
            self.object(
                id,
                data.carrier,
                data.other_position as u32,
                &process,
                has_written,
                out,
            );
            id
        } else {
            FlowId::Socket(data.flow)
        };
        out(Captured::Segment(Segment {
            at: KernelTime(header.at),
            flow,
            process,
            direction: direction(data),
            position: data.position,
            other_position: if data.flags & TLS != 0 {
                0
            } else {
                data.other_position
            },
            bytes: Bytes::copy_from_slice(payload),
            missing: missing_bytes,
            missing_reason: match data.missing {
                missing::SENDFILE => GapReason::Sendfile,
                missing::OVERLOAD => GapReason::Overload,
                missing::UNREADABLE => GapReason::Unreadable,
                missing::LIMIT | missing::NOTHING => GapReason::Limit,
                // Elsewhere, or nobody knows why.
                _ => GapReason::Unseen,
            },
        }));
        Some(())
    }

    fn open(
        &mut self,
        header: &Header,
        open: &FlowOpen,
        out: &mut dyn FnMut(Captured),
        notice: &mut dyn FnMut(Notice),
    ) -> Option<()> {
        // A socket that is gone has no ports any more: what was known of it holds.
        if self.flows.get(&open.cookie).is_some_and(|known| known.ended) {
            return Some(());
        }
        let process = self.process(header);
        let role = match open.role {
            role::CLIENT => SocketRole::Client,
            role::SERVER => SocketRole::Server,
            _ if open.joined_late == 0 => SocketRole::Unknown,
            _ if self.listeners.contains(&(open.netns, open.local_port)) => SocketRole::Server,
            _ => SocketRole::Client,
        };
        let info = Arc::new(FlowInfo {
            id: FlowId::Socket(open.cookie),
            carrier: Some(open.cookie),
            local: Some(address(open.family, open.local, open.local_port)?),
            remote: Some(address(open.family, open.remote, open.remote_port)?),
            role,
            netns: open.netns,
            tls: None,
            joined_late: open.joined_late != 0 && open.gone == 0,
            starts: (open.joined_late == 0).then_some((open.sent_start, open.received_start)),
            enforceable: open.enforceable != 0,
        });
        let objects = self
            .flows
            .remove(&open.cookie)
            .map(|known| known.objects)
            .unwrap_or_default();
        if self.flows.len() >= self.flows_max {
            self.make_room();
        }
        let flow = Flow {
            info: info.clone(),
            process,
            tls: open.tls,
            objects,
            ended: open.gone != 0,
        };
        self.flows.insert(open.cookie, flow);
        match open.tls {
            tls_state::CLEAR => {
                let flow = info.id;
                out(Captured::Flow(info));
                if open.gone != 0 {
                    let at = KernelTime(header.at);
                    self.ended.push_back((at, open.cookie));
                    // The record that announced it follows, and no other end.
                    let end = FlowEnd {
                        reset: true,
                        unread: true,
                        ..FlowEnd::default()
                    };
                    out(Captured::Closed { at, flow, end });
                }
            }
            tls_state::UNKNOWN => {
                let process = self.process(header);
                notice(Notice::Unseen {
                    info,
                    process,
                    reason: BlindReason::UnknownTls,
                });
            }
            _ => {}
        }
        Some(())
    }

    /// The kernel's table is as large and forgets the least used: here everything goes, and comes back when used.
    fn make_room(&mut self) {
        self.stats.flows_evicted += self.flows.len() as u64;
        self.flows.clear();
        self.ended.clear();
        self.objects.clear();
    }

    fn forget_ended(&mut self, now: KernelTime) {
        while let Some(&(at, cookie)) = self.ended.front()
            && now.since(at) > ENDED_KEPT_NS
        {
            self.ended.pop_front();
            for object in self
                .flows
                .remove(&cookie)
                .into_iter()
                .flat_map(|flow| flow.objects)
            {
                self.objects.remove(&object);
            }
        }
    }

    /// The object's flow is known to the next stage, with its carrier if there is one.
    fn object(
        &mut self,
        id: FlowId,
        carrier: u64,
        library: u32,
        process: &Arc<Process>,
        has_written: bool,
        out: &mut dyn FnMut(Captured),
    ) {
        let carrier = (carrier != 0).then_some(carrier);
        // What is read may be seen before it is known by which socket it came; what is written is not.
        let is_blind = carrier.is_none() && has_written;
        let was_blind = self.objects.get(&id).is_some_and(|known| known.is_blind);
        if is_blind && !was_blind {
            self.see_blind(process.exe.clone(), BlindReason::MemoryBio, process.pid, 0);
        }
        if let Some(known) = self.objects.get_mut(&id)
            && known.info.carrier == carrier
        {
            known.is_blind |= is_blind;
            return;
        }
        let fresh = !self.objects.contains_key(&id);
        // A process that is killed frees nothing.
        if fresh && self.objects.len() >= self.flows_max {
            self.make_room();
        }
        let tls = self
            .libraries
            .get((library as usize).wrapping_sub(1))
            .cloned()
            .unwrap_or_else(|| TlsInfo {
                library: SmolStr::new_static("openssl"),
                version: SmolStr::default(),
            });
        let below = carrier.and_then(|cookie| self.flows.get_mut(&cookie));
        let mut info = FlowInfo {
            id,
            carrier,
            local: None,
            remote: None,
            role: SocketRole::Unknown,
            netns: 0,
            tls: Some(tls),
            // An object is followed from its first use after the probes came: its start may be missing.
            joined_late: true,
            starts: None,
            enforceable: false,
        };
        if let Some(below) = below {
            info.local = below.info.local;
            info.remote = below.info.remote;
            info.role = below.info.role;
            info.netns = below.info.netns;
            info.joined_late = below.info.joined_late;
            info.enforceable = below.info.enforceable;
            if !below.objects.contains(&id) {
                below.objects.push(id);
            }
        }
        let info = Arc::new(info);
        let object = Object {
            info: info.clone(),
            ends: None,
            is_blind,
        };
        self.objects.insert(id, object);
        out(Captured::Flow(info));
    }

    fn bind(&mut self, header: &Header, bind: &TlsBind, out: &mut dyn FnMut(Captured)) {
        let process = self.process(header);
        let id = tls_object(header, bind.object, bind.generation);
        self.object(id, bind.cookie, bind.library, &process, false, out);
        self.bound(id, bind.cookie, out);
    }

    fn see_blind(&mut self, exe: SmolStr, reason: BlindReason, pid: u32, bytes: u64) {
        if self.blind.len() >= BLIND_MAX && !self.blind.contains_key(&(exe.clone(), reason)) {
            return;
        }
        let blind = self.blind.entry((exe, reason)).or_default();
        blind.pid = pid;
        blind.bytes = blind.bytes.saturating_add(bytes);
        blind.flows += 1;
    }

    fn close(
        &mut self,
        at: KernelTime,
        close: &FlowClose,
        out: &mut dyn FnMut(Captured),
        notice: &mut dyn FnMut(Notice),
    ) {
        self.heads.forget(close.cookie);
        let Some(flow) = self.flows.get_mut(&close.cookie).filter(|flow| !flow.ended) else {
            return;
        };
        let egress = match (close.egress_seen, close.enforceable) {
            (0, 0) => None,
            // Every packet was looked at from the first on, and none had payload.
            (0, _) => (!flow.info.joined_late).then_some((close.sent_start, KernelTime(0))),
            _ => Some((close.egress_end, KernelTime(close.egress_at))),
        };
        let end = FlowEnd {
            sent_end: u64::from(close.sent_end),
            received_end: u64::from(close.received_end),
            bytes_acked: close.bytes_acked,
            bytes_received: close.bytes_received,
            reset: close.reset != 0,
            egress,
            withheld_from: (close.withheld != 0).then_some(close.withhold_from),
            withheld_by_gate: close.withheld == 2,
            withheld_bytes: close.withheld_bytes,
            unread: close.unread != 0,
            accepted_end: Some(close.accepted_end),
        };
        let kept = end.unread || end.reset;
        flow.ended = kept;
        let (info, process, objects) = (flow.info.clone(), flow.process.clone(), flow.objects.clone());
        if kept {
            self.ended.push_back((at, close.cookie));
        } else {
            self.flows.remove(&close.cookie);
        }
        let bytes = close.bytes_acked.saturating_add(close.bytes_received);
        let seen = close.tls != tls_state::UNKNOWN;
        notice(Notice::Ended {
            cookie: close.cookie,
            process: process.clone(),
            bytes,
            enforceable: close.enforceable != 0 && seen,
            seen,
        });
        if !seen {
            self.see_blind(process.exe.clone(), BlindReason::UnknownTls, process.pid, bytes);
        }
        for object in objects {
            // Positions of a TLS object are plaintext: TCP's say nothing of them. What TCP withheld still holds.
            let (sent_end, received_end) = self
                .objects
                .get(&object)
                .and_then(|object| object.ends)
                .unwrap_or_default();
            if !kept {
                self.objects.remove(&object);
            }
            let end = FlowEnd {
                sent_end,
                received_end,
                ..end
            };
            out(Captured::Closed {
                at,
                flow: object,
                end,
            });
        }
        // Also where only ciphertext went over it: whoever withheld it wants to know.
        out(Captured::Closed {
            at,
            flow: info.id,
            end,
        });
    }

    fn tls_close(&mut self, header: &Header, id: FlowId, close: &TlsClose, out: &mut dyn FnMut(Captured)) {
        let Some(object) = self.objects.get_mut(&id) else {
            return;
        };
        // With a socket behind it the socket's end is the object's: only that knows what left the host. One that has ended
        // waits for what may follow, such as how much there was.
        let carrier = object.info.carrier.and_then(|cookie| self.flows.get(&cookie));
        if carrier.is_some_and(|flow| !flow.ended) {
            object.ends = Some((close.sent_end, close.received_end));
            return;
        }
        self.objects.remove(&id);
        let end = FlowEnd {
            sent_end: close.sent_end,
            received_end: close.received_end,
            ..FlowEnd::default()
        };
        out(Captured::Closed {
            at: KernelTime(header.at),
            flow: id,
            end,
        });
    }
}

fn direction(data: &Data) -> Direction {
    if data.flags & SENT != 0 {
        Direction::Sent
    } else {
        Direction::Received
    }
}

/// A thread's name, up to its closing zero.
fn name(comm: &[u8]) -> &[u8] {
    comm.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// IPv4-mapped addresses are IPv4.
fn address(family: u8, bytes: [u8; 16], port: u16) -> Option<SocketAddr> {
    let ip = match family {
        4 => IpAddr::V4(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3])),
        6 => Ipv6Addr::from(bytes).to_canonical(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}
