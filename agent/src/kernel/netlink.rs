//! TCP sockets, by network namespace: which there are, and ending one of them for certain.
//!
//! inet_diag tells connections that are older than the agent (a dump also makes the kernel assign their cookies,
//! which programs read as 0 until then), and `SOCK_DESTROY` aborts one. It is always asked for with the socket's
//! cookie: an address alone may by now be another connection's, or fall through to the listener on the port.
//!
//! Requests and fixed parts are netlink-packet-sock-diag's. Attributes are read here by their documented offsets,
//! as that crate wants `tcp_info` in the length of one kernel version.
//!
//! It must not know why a socket is to end.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::linux::fs::MetadataExt;
use std::path::{Path, PathBuf};

use netlink_packet_core::{Emitable, NetlinkBuffer, NlasIterator, Parseable};
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP};
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, InetResponseHeader, SocketId, StateFlags};
use netlink_packet_sock_diag::{SOCK_DESTROY, SOCK_DIAG_BY_FAMILY};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// One answer of the kernel; its dumps come in pieces of at most 32 KiB.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Sockets that one dump returns at most; the rest is left out and said so.
const SOCKETS_MAX: usize = 1 << 20;
/// Namespaces whose netlink socket is kept open; the least recently used one is closed.
const NAMESPACES_MAX: usize = 256;

/// Bytes of `struct nlmsghdr`.
const HEADER_BYTES: usize = 16;
/// Bytes of `struct inet_diag_msg`.
const ENTRY_BYTES: usize = 72;
/// `INET_DIAG_INFO`: an attribute with `struct tcp_info`.
const ATTRIBUTE_INFO: u16 = 2;
/// Byte offsets in `struct tcp_info` (include/uapi/linux/tcp.h), which only ever grows at its end.
const INFO_BYTES_ACKED_AT: usize = 120;
const INFO_BYTES_RECEIVED_AT: usize = 128;

/// Why sockets could not be listed or ended.
#[derive(Debug, thiserror::Error)]
pub enum DiagError {
    #[error("the connection is gone already, or another one has its addresses now")]
    Gone,
    #[error("this kernel cannot end sockets (built without CONFIG_INET_DIAG_DESTROY)")]
    DestroyUnsupported,
    #[error("this kernel cannot list TCP sockets (module tcp_diag: CONFIG_INET_DIAG, CONFIG_INET_TCP_DIAG)")]
    DumpUnsupported,
    #[error("refused: {0}")]
    Refused(&'static str),
    #[error("not permitted: it takes CAP_NET_ADMIN, and CAP_SYS_ADMIN for other network namespaces")]
    NotPermitted,
    #[error("the network namespace {0} is gone")]
    NamespaceGone(u32),
    #[error("{doing}: {source}")]
    Io { doing: &'static str, source: io::Error },
    #[error("the kernel's answer is not understood: {0}")]
    Malformed(&'static str),
}

fn io_error(doing: &'static str) -> impl FnOnce(io::Error) -> DiagError {
    move |source| match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => DiagError::NotPermitted,
        _ => DiagError::Io { doing, source },
    }
}

/// State of a TCP socket, numbered as in the kernel (include/net/tcp_states.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum TcpState {
    Established = 1,
    SynSent = 2,
    SynReceived = 3,
    FinWait1 = 4,
    FinWait2 = 5,
    TimeWait = 6,
    Close = 7,
    CloseWait = 8,
    LastAck = 9,
    Listen = 10,
    Closing = 11,
    NewSynReceived = 12,
    /// One that is newer than this program.
    Other = 255,
}

impl TcpState {
    fn from_number(number: u8) -> TcpState {
        match number {
            1 => TcpState::Established,
            2 => TcpState::SynSent,
            3 => TcpState::SynReceived,
            4 => TcpState::FinWait1,
            5 => TcpState::FinWait2,
            6 => TcpState::TimeWait,
            7 => TcpState::Close,
            8 => TcpState::CloseWait,
            9 => TcpState::LastAck,
            10 => TcpState::Listen,
            11 => TcpState::Closing,
            12 => TcpState::NewSynReceived,
            _ => TcpState::Other,
        }
    }

    /// Payload may have moved, or may still.
    pub fn is_connection(self) -> bool {
        !matches!(
            self,
            TcpState::Listen | TcpState::Close | TcpState::TimeWait | TcpState::Other
        )
    }
}

/// TCP's own account of a connection so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counters {
    /// Bytes that the other side has acknowledged.
    pub bytes_acked: u64,
    /// Bytes that have arrived in order, read by the application or not.
    pub bytes_received: u64,
}

/// One TCP socket. IPv4-mapped addresses are IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketEntry {
    pub cookie: u64,
    pub local: SocketAddr,
    pub remote: SocketAddr,
    pub state: TcpState,
    /// Of the socket's file; 0 if no process holds it any more.
    pub inode: u32,
    pub uid: u32,
    /// Index of the device it is bound to, 0 for none.
    pub interface: u32,
    /// `None` unless asked for.
    pub counters: Option<Counters>,
}

/// Which sockets a dump is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sockets {
    /// Those that carry or carried payload.
    Connections,
    /// Those that wait for connections.
    Listeners,
}

/// The sockets of one network namespace, asked for over one netlink socket.
pub struct SockDiag {
    socket: netlink_sys::Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

enum Answer {
    Entry(SocketEntry),
    Done,
    /// A positive errno.
    Error(i32),
}

impl SockDiag {
    /// For the namespace of the calling thread.
    pub fn current() -> Result<SockDiag, DiagError> {
        let socket =
            netlink_sys::Socket::new(NETLINK_SOCK_DIAG).map_err(io_error("opening a netlink socket"))?;
        Ok(SockDiag {
            socket,
            sequence: 0,
            buffer: Vec::with_capacity(ANSWER_BYTES_MAX),
        })
    }

    /// For the namespace that `namespace` refers to (an open `/proc/PID/ns/net`). A thread of its own enters it
    /// and ends, so that no other thread of the agent ever is in a foreign namespace.
    pub fn in_namespace(namespace: BorrowedFd<'_>) -> Result<SockDiag, DiagError> {
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new()
                .name("apiward-netns".into())
                .spawn_scoped(scope, || {
                    move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))
                        .map_err(|errno| io_error("entering a network namespace")(errno.into()))?;
                    SockDiag::current()
                });
            match thread.map_err(io_error("starting a thread"))?.join() {
                Ok(result) => result,
                Err(_) => Err(DiagError::Malformed("the thread in the namespace ended early")),
            }
        })
    }

    /// All TCP sockets of the namespace, IPv4 and IPv6. Every one has its cookie afterwards. With `counters` TCP's
    /// own byte counts are asked for, which makes it about three times as expensive.
    pub fn dump(&mut self, which: Sockets, counters: bool) -> Result<Vec<SocketEntry>, DiagError> {
        let states = match which {
            Sockets::Connections => {
                !(StateFlags::LISTEN | StateFlags::TIME_WAIT | StateFlags::CLOSE).bits() & 0x1FFF & !1
            }
            Sockets::Listeners => StateFlags::LISTEN.bits(),
        };
        let mut entries = Vec::new();
        for family in [AF_INET, AF_INET6] {
            let id = if family == AF_INET {
                SocketId::new_v4()
            } else {
                SocketId::new_v6()
            };
            self.dump_into(&mut entries, family, states, counters, id)?;
        }
        Ok(entries)
    }

    /// The socket with these addresses and this cookie, as it is now.
    pub fn find(
        &mut self,
        local: SocketAddr,
        remote: SocketAddr,
        cookie: u64,
        counters: bool,
    ) -> Result<SocketEntry, DiagError> {
        if cookie == 0 || cookie == u64::MAX {
            return Err(DiagError::Refused(
                "a socket is only ever asked for by its cookie",
            ));
        }
        let (family, id) = socket_id(local, remote, cookie)?;
        match self.get(family, id.clone(), counters) {
            // A socket bound to a device (VRF) or with a link-local address is found only with its interface,
            // which a dump tells.
            Err(DiagError::Gone) if id.interface_id == 0 => {
                let mut entries = Vec::new();
                let filter = SocketId {
                    source_port: id.source_port,
                    destination_port: id.destination_port,
                    ..if family == AF_INET {
                        SocketId::new_v4()
                    } else {
                        SocketId::new_v6()
                    }
                };
                for family in [AF_INET, AF_INET6] {
                    self.dump_into(&mut entries, family, u32::MAX, counters, filter.clone())?;
                }
                entries
                    .into_iter()
                    .find(|entry| entry.cookie == cookie)
                    .ok_or(DiagError::Gone)
            }
            result => result,
        }
    }

    /// Aborts the connection with these addresses **and** this cookie: the peer gets a reset, the application
    /// `ECONNABORTED`. A listener is never touched, whatever is passed.
    pub fn destroy(&mut self, local: SocketAddr, remote: SocketAddr, cookie: u64) -> Result<(), DiagError> {
        if remote.port() == 0 || remote.ip().is_unspecified() {
            return Err(DiagError::Refused("an address without a peer is a listener's"));
        }
        // The kernel's lookup falls back to the listener on the port; if the cookie were the listener's (a packet
        // of a connection not yet established carries it), it would be the one that dies.
        let entry = self.find(local, remote, cookie, false)?;
        if entry.state == TcpState::Listen || entry.remote.port() == 0 {
            return Err(DiagError::Refused("the socket is a listener"));
        }
        let (family, mut id) = socket_id(local, remote, cookie)?;
        id.interface_id = entry.interface;
        let request = self.request(family, u32::MAX, false, id);
        self.send(
            SOCK_DESTROY,
            (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16,
            &request,
        )?;
        let mut failure = None;
        self.answers(|answer| match answer {
            Answer::Entry(_) => {}
            Answer::Error(errno) => failure = Some(errno),
            Answer::Done => failure = failure.or(Some(0)),
        })?;
        match failure {
            Some(0) => Ok(()),
            Some(libc::ENOENT | libc::ESTALE) => Err(DiagError::Gone),
            Some(libc::EOPNOTSUPP) => Err(DiagError::DestroyUnsupported),
            Some(libc::EPERM | libc::EACCES) => Err(DiagError::NotPermitted),
            Some(errno) => Err(DiagError::Io {
                doing: "ending a socket",
                source: io::Error::from_raw_os_error(errno),
            }),
            None => Err(DiagError::Malformed("no acknowledgement")),
        }
    }

    fn get(&mut self, family: u8, id: SocketId, counters: bool) -> Result<SocketEntry, DiagError> {
        let request = self.request(family, u32::MAX, counters, id);
        self.send(SOCK_DIAG_BY_FAMILY, libc::NLM_F_REQUEST as u16, &request)?;
        let mut found = Err(DiagError::Malformed("no answer"));
        self.answers_until(1, |answer| match answer {
            Answer::Entry(entry) => found = Ok(entry),
            Answer::Done => {}
            Answer::Error(errno) => found = Err(dump_error(errno)),
        })?;
        found
    }

    fn dump_into(
        &mut self,
        entries: &mut Vec<SocketEntry>,
        family: u8,
        states: u32,
        counters: bool,
        id: SocketId,
    ) -> Result<(), DiagError> {
        let request = self.request(family, states, counters, id);
        self.send(
            SOCK_DIAG_BY_FAMILY,
            (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16,
            &request,
        )?;
        let mut failure = None;
        let mut left_out = 0u64;
        self.answers(|answer| match answer {
            Answer::Entry(entry) if entries.len() < SOCKETS_MAX => entries.push(entry),
            Answer::Entry(_) => left_out += 1,
            Answer::Done => {}
            Answer::Error(0) => {}
            Answer::Error(errno) => failure = Some(errno),
        })?;
        if left_out > 0 {
            tracing::warn!(
                left_out,
                "more TCP sockets than the agent takes in at start; the rest is joined later"
            );
        }
        match failure {
            // No IPv6 in this kernel: no sockets either.
            Some(libc::ENOENT) if family == AF_INET6 => Ok(()),
            Some(errno) => Err(dump_error(errno)),
            None => Ok(()),
        }
    }

    fn request(&self, family: u8, states: u32, counters: bool, socket_id: SocketId) -> [u8; 56] {
        let extensions = if counters {
            ExtensionFlags::INFO
        } else {
            ExtensionFlags::empty()
        };
        let states = StateFlags::from_bits_retain(states);
        let request = InetRequest {
            family,
            protocol: IPPROTO_TCP,
            extensions,
            states,
            socket_id,
        };
        let mut bytes = [0; 56];
        request.emit(&mut bytes);
        bytes
    }

    fn send(&mut self, message_type: u16, flags: u16, request: &[u8; 56]) -> Result<(), DiagError> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut message = Vec::with_capacity(HEADER_BYTES + request.len());
        message.extend_from_slice(&((HEADER_BYTES + request.len()) as u32).to_ne_bytes());
        message.extend_from_slice(&message_type.to_ne_bytes());
        message.extend_from_slice(&flags.to_ne_bytes());
        message.extend_from_slice(&self.sequence.to_ne_bytes());
        message.extend_from_slice(&0u32.to_ne_bytes());
        message.extend_from_slice(request);
        self.socket
            .send(&message, 0)
            .map_err(io_error("asking the kernel for sockets"))?;
        Ok(())
    }

    fn answers(&mut self, on_answer: impl FnMut(Answer)) -> Result<(), DiagError> {
        self.answers_until(usize::MAX, on_answer)
    }

    /// Reads answers until the kernel says done or failed, or `count_max` entries have come.
    fn answers_until(
        &mut self,
        count_max: usize,
        mut on_answer: impl FnMut(Answer),
    ) -> Result<(), DiagError> {
        let mut count = 0;
        loop {
            self.buffer.clear();
            self.buffer.reserve(ANSWER_BYTES_MAX);
            let bytes = self
                .socket
                .recv(&mut self.buffer, libc::MSG_TRUNC)
                .map_err(io_error("reading the kernel's list of sockets"))?;
            if bytes > self.buffer.len() {
                return Err(DiagError::Malformed(
                    "an answer is larger than the kernel's dumps are",
                ));
            }
            let mut rest = &self.buffer[..];
            while rest.len() >= HEADER_BYTES {
                let message =
                    NetlinkBuffer::new_checked(rest).map_err(|_| DiagError::Malformed("a cut message"))?;
                let length = (message.length() as usize).next_multiple_of(4).min(rest.len());
                if message.sequence_number() == self.sequence {
                    match i32::from(message.message_type()) {
                        libc::NLMSG_DONE => {
                            // A failed dump says so here, as a negative errno.
                            match message
                                .payload()
                                .first_chunk()
                                .map(|code| i32::from_ne_bytes(*code))
                            {
                                Some(code) if code < 0 => on_answer(Answer::Error(code.saturating_neg())),
                                _ => on_answer(Answer::Done),
                            }
                            return Ok(());
                        }
                        libc::NLMSG_ERROR => {
                            let code = message
                                .payload()
                                .first_chunk()
                                .map(|code| i32::from_ne_bytes(*code));
                            on_answer(Answer::Error(code.unwrap_or(-libc::EIO).saturating_neg()));
                            return Ok(());
                        }
                        number if number == i32::from(SOCK_DIAG_BY_FAMILY) => {
                            on_answer(Answer::Entry(parse_entry(message.payload())?));
                            count += 1;
                            if count >= count_max {
                                return Ok(());
                            }
                        }
                        _ => {}
                    }
                }
                rest = &rest[length..];
            }
        }
    }
}

fn dump_error(errno: i32) -> DiagError {
    match errno {
        libc::ENOENT | libc::ESTALE => DiagError::Gone,
        libc::EOPNOTSUPP | libc::EPROTONOSUPPORT => DiagError::DumpUnsupported,
        libc::EPERM | libc::EACCES => DiagError::NotPermitted,
        errno => DiagError::Io {
            doing: "listing sockets",
            source: io::Error::from_raw_os_error(errno),
        },
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn socket_id(local: SocketAddr, remote: SocketAddr, cookie: u64) -> Result<(u8, SocketId), DiagError> {
    let interface_id = match (local, remote) {
        (SocketAddr::V6(local), SocketAddr::V6(remote)) => local.scope_id().max(remote.scope_id()),
        _ => 0,
    };
    let (local, remote) = (canonical(local), canonical(remote));
    let family = match (local.ip(), remote.ip()) {
        (IpAddr::V4(_), IpAddr::V4(_)) => AF_INET,
        (IpAddr::V6(_), IpAddr::V6(_)) => AF_INET6,
        _ => return Err(DiagError::Refused("the two addresses are of different families")),
    };
    let id = SocketId {
        source_port: local.port(),
        destination_port: remote.port(),
        source_address: local.ip(),
        destination_address: remote.ip(),
        interface_id,
        // Two 32-bit words, low one first, each in host order: on little-endian the number as it is.
        cookie: cookie.to_le_bytes(),
    };
    Ok((family, id))
}

fn parse_entry(payload: &[u8]) -> Result<SocketEntry, DiagError> {
    let header = InetResponseHeader::parse(payload).map_err(|_| DiagError::Malformed("a socket's entry"))?;
    let id = header.socket_id;
    let address = |ip: IpAddr, port: u16| match ip.to_canonical() {
        IpAddr::V6(v6) if v6.is_unicast_link_local() => {
            SocketAddrV6::new(v6, port, 0, id.interface_id).into()
        }
        ip => SocketAddr::new(ip, port),
    };
    let mut counters = None;
    for attribute in NlasIterator::new(payload.get(ENTRY_BYTES..).unwrap_or_default()) {
        let Ok(attribute) = attribute else { break };
        if attribute.kind() == ATTRIBUTE_INFO {
            let number = |at: usize| {
                attribute
                    .value()
                    .get(at..)?
                    .first_chunk()
                    .map(|bytes| u64::from_ne_bytes(*bytes))
            };
            counters = number(INFO_BYTES_ACKED_AT)
                .zip(number(INFO_BYTES_RECEIVED_AT))
                .map(|(bytes_acked, bytes_received)| Counters {
                    bytes_acked,
                    bytes_received,
                });
        }
    }
    Ok(SocketEntry {
        cookie: u64::from_le_bytes(id.cookie),
        local: address(id.source_address, id.source_port),
        remote: address(id.destination_address, id.destination_port),
        state: TcpState::from_number(header.state),
        inode: header.inode,
        uid: header.uid,
        interface: id.interface_id,
        counters,
    })
}

/// A network namespace, and a file by which it can be entered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetNamespace {
    pub inode: u32,
    /// `/proc/PID/ns/net`, or a name under `/run/netns`.
    pub path: PathBuf,
}

/// Inode number of the agent's own network namespace.
pub fn own_namespace() -> Result<u32, DiagError> {
    inode_of(Path::new("/proc/thread-self/ns/net"))
        .map_err(io_error("reading the agent's own network namespace"))
}

fn inode_of(path: &Path) -> io::Result<u32> {
    // Namespace inode numbers are 32 bits wide in the kernel.
    Ok(std::fs::metadata(path)?.st_ino() as u32)
}

/// Every network namespace that a process is in or that has a name, the agent's own first, each once. Processes
/// that may not be looked at, or are gone meanwhile, are passed over.
pub fn list_namespaces() -> Result<Vec<NetNamespace>, DiagError> {
    let mut found = vec![NetNamespace {
        inode: own_namespace()?,
        path: "/proc/self/ns/net".into(),
    }];
    let mut seen: std::collections::HashSet<u32> = found.iter().map(|namespace| namespace.inode).collect();
    let processes = std::fs::read_dir("/proc").map_err(io_error("reading /proc"))?;
    let by_process = processes.flatten().filter_map(|entry| {
        let is_pid = entry
            .file_name()
            .as_encoded_bytes()
            .iter()
            .all(u8::is_ascii_digit);
        is_pid.then(|| entry.path().join("ns/net"))
    });
    let by_name = std::fs::read_dir("/run/netns")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    for path in by_process.chain(by_name) {
        let Ok(inode) = inode_of(&path) else { continue };
        if seen.insert(inode) {
            found.push(NetNamespace { inode, path });
        }
    }
    Ok(found)
}

/// Netlink sockets by network namespace, opened when first needed. A kept one works as long as the namespace
/// lives, and keeps nothing else alive but it.
#[derive(Default)]
pub struct Namespaces {
    open: HashMap<u32, (SockDiag, u64)>,
    uses: u64,
}

impl Namespaces {
    /// The sockets of the namespace with this inode number; looks for a process in it if it is not open yet.
    pub fn get(&mut self, inode: u32) -> Result<&mut SockDiag, DiagError> {
        if !self.open.contains_key(&inode) {
            let namespaces = list_namespaces()?;
            let namespace = namespaces
                .iter()
                .find(|n| n.inode == inode)
                .ok_or(DiagError::NamespaceGone(inode))?;
            return self.open(namespace);
        }
        self.used(inode)
    }

    /// As [`Namespaces::get`], for one whose path is known.
    pub fn open(&mut self, namespace: &NetNamespace) -> Result<&mut SockDiag, DiagError> {
        let inode = namespace.inode;
        if !self.open.contains_key(&inode) {
            let diag = if own_namespace()? == inode {
                SockDiag::current()?
            } else {
                let file =
                    std::fs::File::open(&namespace.path).map_err(|_| DiagError::NamespaceGone(inode))?;
                let opened = file
                    .metadata()
                    .map_err(io_error("reading a network namespace"))?
                    .st_ino() as u32;
                if opened != inode {
                    // The pid is another process's by now.
                    return Err(DiagError::NamespaceGone(inode));
                }
                SockDiag::in_namespace(file.as_fd())?
            };
            if self.open.len() >= NAMESPACES_MAX
                && let Some(oldest) = self
                    .open
                    .iter()
                    .min_by_key(|(_, (_, used))| *used)
                    .map(|(inode, _)| *inode)
            {
                self.open.remove(&oldest);
            }
            self.open.insert(inode, (diag, 0));
        }
        self.used(inode)
    }

    /// Closes those that are not in `alive`, so that the kernel can let them go.
    pub fn retain(&mut self, alive: &[NetNamespace]) {
        self.open
            .retain(|inode, _| alive.iter().any(|namespace| namespace.inode == *inode));
    }

    fn used(&mut self, inode: u32) -> Result<&mut SockDiag, DiagError> {
        self.uses += 1;
        let uses = self.uses;
        let (diag, used) = self.open.get_mut(&inode).ok_or(DiagError::NamespaceGone(inode))?;
        *used = uses;
        Ok(diag)
    }
}

#[cfg(test)]
mod tests;
