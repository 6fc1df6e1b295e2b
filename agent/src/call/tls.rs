//! A connection's TLS handshake, as facts of the calls on it: version, cipher, names, certificates.
//!
//! They are the socket's, learnt before the first call, and shared by all calls of the connection. What was encrypted or
//! not seen is said to be so. Names are a peer's word: they are shown by the rules for hosts and systems, and whoever a
//! client's certificate names is a keyed hash. It must not judge: that is for `detect`.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap;
use smol_str::{SmolStr, format_smolstr};

use super::redact::Redactor;
use super::{ApiCall, Credentials, Phase, Stats};
use crate::capture::{FlowInfo, Handshake, KernelTime, Process, SocketRole};
use crate::decode::{TlsCertificate, TlsCipher, TlsHandshake, TlsShown, TlsSpoken, TlsVersion};

/// Bytes that all handshakes in progress may hold together.
const HELD_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Handshakes of connections that nobody reads, until somebody asks for them.
const BLIND_LEN_MAX: usize = 1_024;

/// Registered protocol names (IANA, TLS ALPN Protocol IDs), and those of service meshes.
const PROTOCOLS: &[&str] = &[
    "http/0.9",
    "http/1.0",
    "http/1.1",
    "h2",
    "h2c",
    "h3",
    "spdy/1",
    "spdy/2",
    "spdy/3",
    "acme-tls/1",
    "mqtt",
    "coap",
    "dot",
    "doq",
    "ftp",
    "imap",
    "pop3",
    "managesieve",
    "smb",
    "sip/2",
    "tds/8.0",
    "dicom",
    "postgresql",
    "radius/1.0",
    "radius/1.1",
    "ntske/1",
    "sunrpc",
    "xmpp-client",
    "xmpp-server",
    "stun.turn",
    "stun.nat-discovery",
    "webrtc",
    "c-webrtc",
    "irc",
    "nntp",
    "nnsp",
    "grpc-exp",
    "istio",
    "istio-h2",
    "istio-http/1.0",
    "istio-http/1.1",
    "istio-peer-exchange",
];

/// What is known of a side's certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sight {
    /// What tells was not seen.
    #[default]
    Unknown,
    /// TLS 1.3 encrypts it.
    Encrypted,
    /// The session is an older one: it was shown then.
    Resumed,
    /// Nobody asked for it.
    NotAsked,
    /// It was asked for, and there is none.
    None,
    Shown,
}

impl Sight {
    /// The name in policies and events.
    pub fn as_str(self) -> &'static str {
        match self {
            Sight::Unknown => "unknown",
            Sight::Encrypted => "encrypted",
            Sight::Resumed => "resumed",
            Sight::NotAsked => "not-asked",
            Sight::None => "none",
            Sight::Shown => "shown",
        }
    }
}

/// A certificate's facts that may leave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Certificate {
    /// A server's: its host, shown or hashed as hosts are. A client's: a keyed hash.
    pub subject: SmolStr,
    /// Hosts that it is for; of a server's alone.
    pub names: Vec<SmolStr>,
    /// Shown or hashed as names of systems are.
    pub issuer: SmolStr,
    /// In seconds since 1970.
    pub not_before_s: i64,
    pub not_after_s: i64,
    pub self_signed: bool,
    /// Kind and length of its key, such as `rsa-2048`.
    pub key: SmolStr,
    /// Certificates that were shown with it, itself among them.
    pub chain: u32,
    /// In hex; of a server's alone.
    pub serial: SmolStr,
}

/// What a handshake said, as far as it may leave. Empty texts: not known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// `1.2`, `1.3` …
    pub version: &'static str,
    /// The registered name, or the number.
    pub cipher: SmolStr,
    /// As the client gave it, shown or hashed as hosts are.
    pub server_name: SmolStr,
    /// There is, or seems to be, another one inside, encrypted: this is a front end's.
    pub encrypted_hello: bool,
    /// What was agreed on; TLS 1.3 encrypts it.
    pub alpn: SmolStr,
    /// What the client offered, registered names alone.
    pub alpn_offered: Vec<SmolStr>,
    pub resumed: Option<bool>,
    pub certificate_sight: Sight,
    pub certificate: Option<Certificate>,
    pub client_certificate_sight: Sight,
    pub client_certificate: Option<Certificate>,
    /// The client has proved that its certificate is its own.
    pub client_proven: bool,
    /// A side said what none may say.
    pub malformed: bool,
}

/// The same as it was, for `detect` and `policy` alone. Deliberately without `Debug`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct TlsNames {
    /// Lower case; empty: the client named no server, or it was not seen.
    pub server_name: SmolStr,
    /// The common name in the server's certificate, and its issuer's.
    pub subject: SmolStr,
    pub issuer: SmolStr,
}

/// A call's share in it.
#[derive(Clone, Debug)]
pub struct CallTls {
    pub facts: Arc<Tls>,
    /// As in the facts, or, if the request names the same host, as that is shown.
    pub server_name: SmolStr,
    /// The server's certificate was over, or had not begun, at the time of the call; `detect` fills it.
    pub certificate_expired: bool,
    /// The server name and the request's host are of different registrable domains; `detect` fills it.
    pub names_disagree: bool,
}

/// A TLS connection that nobody reads.
#[derive(Clone)]
pub struct BlindTls {
    pub at: KernelTime,
    pub flow: Arc<FlowInfo>,
    pub process: Arc<Process>,
    pub facts: Arc<Tls>,
    pub names: Arc<TlsNames>,
}

struct Known {
    reading: Option<Box<TlsHandshake>>,
    held_bytes: usize,
    facts: Arc<Tls>,
    names: Arc<TlsNames>,
    /// Nobody reads what it carries, and that was told.
    told: bool,
}

/// Handshakes of connections that have not ended.
#[derive(Default)]
pub(super) struct Handshakes {
    known: HashMap<u64, Known>,
    /// In the order they came; some have ended.
    order: VecDeque<u64>,
    held_bytes: usize,
    blind: Vec<BlindTls>,
}

impl Handshakes {
    /// Takes bytes of one. `known_max`: connections that are remembered, the oldest gives way.
    pub(super) fn take(
        &mut self,
        handshake: &Handshake,
        known_max: usize,
        redactor: &mut Redactor,
        stats: &mut Stats,
    ) {
        let Some(carrier) = handshake.flow.carrier else {
            return;
        };
        if !self.known.contains_key(&carrier) {
            self.make_room(known_max);
            self.order.push_back(carrier);
        }
        let known = self.known.entry(carrier).or_insert_with(|| Known {
            reading: Some(Box::default()),
            held_bytes: 0,
            facts: Arc::default(),
            names: Arc::default(),
            told: false,
        });
        let Some(reading) = &mut known.reading else {
            return;
        };
        let said = reading.take(handshake.direction, handshake.position, &handshake.bytes);
        if said {
            let spoken = reading.spoken();
            known.names = Arc::new(names(spoken));
            known.facts = Arc::new(facts(spoken, witness(handshake, redactor), redactor));
        }
        let over = reading.is_over();
        let held = reading.held_bytes();
        self.held_bytes = self.held_bytes - known.held_bytes + held;
        known.held_bytes = held;
        if over || self.held_bytes > HELD_BYTES_MAX {
            stats.handshakes += u64::from(over);
            stats.handshakes_given_up += u64::from(!over);
            self.held_bytes -= known.held_bytes;
            known.held_bytes = 0;
            known.reading = None;
        }
        if handshake.blind && over && !known.told && self.blind.len() < BLIND_LEN_MAX {
            known.told = true;
            self.blind.push(BlindTls {
                at: handshake.at,
                flow: handshake.flow.clone(),
                process: handshake.process.clone(),
                facts: known.facts.clone(),
                names: known.names.clone(),
            });
        }
    }

    fn make_room(&mut self, known_max: usize) {
        while self.known.len() >= known_max.max(1) {
            let Some(oldest) = self.order.pop_front() else {
                return;
            };
            self.forget(oldest);
        }
        if self.order.len() > 2 * self.known.len() + 64 {
            let known = &self.known;
            self.order.retain(|carrier| known.contains_key(carrier));
        }
    }

    /// The connection has ended.
    pub(super) fn forget(&mut self, carrier: u64) {
        if let Some(known) = self.known.remove(&carrier) {
            self.held_bytes -= known.held_bytes;
        }
    }

    /// Connections that nobody reads, whose handshakes were whole since the last time this was asked.
    pub(super) fn take_blind(&mut self) -> Vec<BlindTls> {
        std::mem::take(&mut self.blind)
    }

    /// Tells a call of its connection's handshake, once.
    pub(super) fn tell(&self, phase: Phase, call: &mut ApiCall) {
        if call.tls.is_some() || call.flow.tls.is_none() || self.known.is_empty() {
            return;
        }
        let Some(known) = call.flow.carrier.and_then(|carrier| self.known.get(&carrier)) else {
            return;
        };
        // Nothing was said yet: at the call's next phase there may be more.
        if known.facts.version.is_empty() && known.names.server_name.is_empty() && phase != Phase::Complete {
            return;
        }
        let same = !known.names.server_name.is_empty() && call.raw.host == known.names.server_name;
        call.tls = Some(CallTls {
            server_name: match same {
                true => SmolStr::new(without_port(&call.request.host)),
                false => known.facts.server_name.clone(),
            },
            facts: known.facts.clone(),
            certificate_expired: false,
            names_disagree: false,
        });
        call.raw.tls = Some(known.names.clone());
        if known.facts.client_proven
            && let Some(certificate) = &known.facts.client_certificate
        {
            let credentials = call
                .request
                .credentials
                .get_or_insert_with(Box::<Credentials>::default);
            credentials.client_certificate = true;
            if credentials.principal.is_none() {
                credentials.principal_kind = "certificate";
                credentials.principal = Some(certificate.subject.clone());
            }
        }
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !name.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

fn names(spoken: &TlsSpoken) -> TlsNames {
    let certificate = match &spoken.server_certificates {
        TlsShown::Chain(Some(certificate), _) => Some(certificate),
        _ => None,
    };
    TlsNames {
        server_name: spoken
            .client_hello
            .as_ref()
            .and_then(|hello| hello.server_name.clone())
            .unwrap_or_default(),
        subject: certificate
            .map(|certificate| certificate.common_name.clone())
            .unwrap_or_default(),
        issuer: certificate
            .map(|certificate| certificate.issuer_name.clone())
            .unwrap_or_default(),
    }
}

/// Who vouches for the server name. Where the requests are read, they do, by their hosts, and must not count twice.
fn witness(handshake: &Handshake, redactor: &Redactor) -> Option<u64> {
    let remote = handshake.flow.remote?.ip().to_canonical();
    match (handshake.blind && !remote.is_loopback(), handshake.flow.role) {
        (false, _) => None,
        (true, SocketRole::Server) => Some(redactor.witness(remote)),
        (true, _) => Some(redactor.witness(handshake.flow.carrier)),
    }
}

fn facts(spoken: &TlsSpoken, witness: Option<u64>, redactor: &mut Redactor) -> Tls {
    let (client, server) = (spoken.client_hello.as_ref(), spoken.server_hello.as_ref());
    let resumed = spoken.resumed();
    let unseen = match (spoken.version(), resumed) {
        (Some(version), _) if version >= TlsVersion::TLS13 => Sight::Encrypted,
        (_, Some(true)) => Sight::Resumed,
        _ => Sight::Unknown,
    };
    let (certificate_sight, certificate) = match &spoken.server_certificates {
        TlsShown::Unknown => (unseen, None),
        TlsShown::None => (Sight::None, None),
        TlsShown::Chain(read, chain) => (
            Sight::Shown,
            read.as_ref().map(|read| Certificate {
                subject: host(&read.common_name.to_ascii_lowercase(), redactor),
                names: read.names.iter().map(|name| host(name, redactor)).collect(),
                serial: read.serial.clone(),
                ..of_either(read, *chain, redactor)
            }),
        ),
    };
    let (client_certificate_sight, client_certificate) = match &spoken.client_certificates {
        TlsShown::Unknown if unseen == Sight::Unknown && spoken.flight_whole && !spoken.asked => {
            (Sight::NotAsked, None)
        }
        TlsShown::Unknown => (unseen, None),
        TlsShown::None => (Sight::None, None),
        TlsShown::Chain(read, chain) => (
            Sight::Shown,
            read.as_ref().map(|read| Certificate {
                // It may name a person.
                subject: redactor.keyed(b"principal", &read.subject),
                ..of_either(read, *chain, redactor)
            }),
        ),
    };
    Tls {
        version: spoken.version().map(TlsVersion::name).unwrap_or_default(),
        cipher: server.map(|server| cipher(server.cipher)).unwrap_or_default(),
        server_name: client
            .and_then(|client| client.server_name.as_deref())
            .map(|name| redactor.host(name, witness))
            .unwrap_or_default(),
        encrypted_hello: client.is_some_and(|client| client.encrypted),
        alpn: server
            .and_then(|server| server.protocol.as_deref())
            .map(|name| protocol(name).unwrap_or(SmolStr::new_static("other")))
            .unwrap_or_default(),
        alpn_offered: client
            .into_iter()
            .flat_map(|client| &client.protocols)
            .filter_map(|name| protocol(name))
            .collect(),
        resumed,
        certificate_sight,
        certificate,
        client_certificate_sight,
        client_certificate,
        client_proven: spoken.proven,
        malformed: spoken.malformed,
    }
}

/// What is told of either side's alike.
fn of_either(read: &TlsCertificate, chain: u32, redactor: &Redactor) -> Certificate {
    Certificate {
        subject: SmolStr::default(),
        names: Vec::new(),
        issuer: match read.issuer_name.is_empty() {
            true => redactor.system(&read.issuer),
            false => redactor.system(read.issuer_name.as_bytes()),
        },
        not_before_s: read.not_before_s,
        not_after_s: read.not_after_s,
        self_signed: read.self_signed,
        key: read.key.clone(),
        chain,
        serial: SmolStr::default(),
    }
}

/// A name that a certificate is for; it may be of all hosts of a domain.
fn host(name: &str, redactor: &mut Redactor) -> SmolStr {
    match name.strip_prefix("*.") {
        Some(domain) => format_smolstr!("*.{}", redactor.host(domain, None)),
        None => redactor.host(name, None),
    }
}

fn protocol(name: &str) -> Option<SmolStr> {
    PROTOCOLS
        .iter()
        .find(|known| **known == name)
        .map(|known| SmolStr::new_static(known))
}

fn cipher(cipher: TlsCipher) -> SmolStr {
    match cipher.name() {
        Some(name) => SmolStr::new_static(name),
        None => format_smolstr!("0x{:04x}", cipher.0),
    }
}
