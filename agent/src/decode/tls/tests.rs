//! Handshakes by hand and of a real library (certificates of `rcgen`), in one piece, split anywhere, and damaged.

use proptest::prelude::*;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use super::*;

const TLS12: Version = Version::TLS12;
const TLS13: Version = Version::TLS13;
const CH: u8 = message::CLIENT_HELLO;
const SH: u8 = message::SERVER_HELLO;

fn vector(length_bytes: usize, bytes: &[u8]) -> Vec<u8> {
    let length = (bytes.len() as u64).to_be_bytes();
    [&length[8 - length_bytes..], bytes].concat()
}

fn record(kind: u8, bytes: &[u8]) -> Vec<u8> {
    [&[kind, 3, 1][..], &vector(2, bytes)].concat()
}

fn handshake(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind][..], &vector(3, body)].concat()
}

fn extension(kind: u16, value: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &vector(2, value)].concat()
}

fn server_name(name: &str) -> Vec<u8> {
    let name = [&[0][..], &vector(2, name.as_bytes())].concat();
    extension(0, &vector(2, &name))
}

fn protocols(names: &[&[u8]]) -> Vec<u8> {
    let list: Vec<u8> = names.iter().flat_map(|name| vector(1, name)).collect();
    extension(16, &vector(2, &list))
}

fn client_hello(Version(version): Version, session_id: &[u8], extensions: &[Vec<u8>]) -> Vec<u8> {
    let mut body = version.to_be_bytes().to_vec();
    body.extend([7; 32]);
    body.extend(vector(1, session_id));
    body.extend(vector(2, &[0x0a, 0x0a, 0x13, 0x01, 0xc0, 0x2f]));
    body.extend(vector(1, &[0]));
    if !extensions.is_empty() {
        body.extend(vector(2, &extensions.concat()));
    }
    handshake(CH, &body)
}

fn server_hello(
    Version(version): Version,
    session_id: &[u8],
    cipher: u16,
    random: [u8; 32],
    extensions: &[Vec<u8>],
) -> Vec<u8> {
    let mut body = version.to_be_bytes().to_vec();
    body.extend(random);
    body.extend(vector(1, session_id));
    body.extend(cipher.to_be_bytes());
    body.push(0);
    if !extensions.is_empty() {
        body.extend(vector(2, &extensions.concat()));
    }
    handshake(SH, &body)
}

const RETRY: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91, 0xc2,
    0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];

/// What the client and the server say, in turns.
pub(crate) type Turns = Vec<(Direction, Vec<u8>)>;

use Direction::{Received as Server, Sent as Client};

fn hear(turns: &Turns) -> TlsHandshake {
    let mut read = TlsHandshake::default();
    let mut positions = [u32::MAX - 100, 5];
    for (direction, bytes) in turns {
        let position = &mut positions[usize::from(*direction == Server)];
        read.take(*direction, *position, bytes);
        *position = position.wrapping_add(bytes.len() as u32);
    }
    read
}

pub(crate) fn certificates() -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    let authority_key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.distinguished_name.push(DnType::CommonName, "Ward CA");
    let authority_der = authority.self_signed(&authority_key).unwrap().der().to_vec();
    let issuer = Issuer::new(authority, authority_key);
    let mut server =
        CertificateParams::new(vec!["API.hospital.example".into(), "*.hospital.example".into()]).unwrap();
    server
        .distinguished_name
        .push(DnType::CommonName, "api.hospital.example");
    let server = server.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap();
    let mut client = CertificateParams::new(Vec::new()).unwrap();
    client.distinguished_name.push(DnType::CommonName, "Ada Zebulon");
    let client = client.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap();
    (server.der().to_vec(), client.der().to_vec(), authority_der)
}

fn chain(ders: &[&[u8]]) -> Vec<u8> {
    let list: Vec<u8> = ders.iter().flat_map(|der| vector(3, der)).collect();
    handshake(message::CERTIFICATE, &vector(3, &list))
}

pub(crate) fn tls12(client_certificates: Option<&[u8]>, asks: bool) -> Turns {
    let (server, _, authority) = certificates();
    let mut turns = vec![(
        Client,
        record(
            22,
            &client_hello(
                TLS12,
                &[],
                &[
                    extension(0x2a2a, &[]),
                    server_name("API.Hospital.Example."),
                    protocols(&[&[0x1a, 0x1a], b"h2", b"http/1.1"]),
                ],
            ),
        ),
    )];
    let mut flight = server_hello(TLS12, &[9; 32], 0xc02f, [1; 32], &[protocols(&[b"http/1.1"])]);
    flight.extend(chain(&[&server, &authority]));
    if asks {
        flight.extend(handshake(
            message::CERTIFICATE_REQUEST,
            &[1, 64, 0, 2, 4, 3, 0, 0],
        ));
    }
    flight.extend(handshake(message::SERVER_HELLO_DONE, &[]));
    // One message in several records, and several in one.
    let flight: Vec<u8> = flight.chunks(300).flat_map(|part| record(22, part)).collect();
    turns.push((Server, flight));
    let mut answer = Vec::new();
    if let Some(ders) = client_certificates {
        let list = if ders.is_empty() {
            Vec::new()
        } else {
            vector(3, ders)
        };
        answer.extend(record(22, &handshake(message::CERTIFICATE, &vector(3, &list))));
    }
    answer.extend(record(22, &handshake(16, &[3; 66])));
    if client_certificates.is_some_and(|ders| !ders.is_empty()) {
        answer.extend(record(22, &handshake(message::CERTIFICATE_VERIFY, &[4; 70])));
    }
    answer.extend(record(20, &[1]));
    // Encrypted from here on: it looks like anything.
    answer.extend(record(22, &[0xee; 40]));
    turns.push((Client, answer));
    turns.push((
        Server,
        [record(20, &[1]), record(22, &[0xdd; 40]), record(23, &[1; 30])].concat(),
    ));
    turns
}

pub(crate) fn tls13(retried: bool) -> Turns {
    let versions = extension(43, &vector(1, &[0x3a, 0x3a, 3, 4, 3, 3]));
    let hello = client_hello(
        TLS12,
        &[5; 32],
        &[
            server_name("vendor.example"),
            versions,
            extension(0xfe0d, &[0; 8]),
        ],
    );
    let chosen = || vec![extension(43, &[3, 4]), extension(51, &[0; 8])];
    let change = record(20, &[1]);
    let mut turns = vec![(Client, record(22, &hello))];
    if retried {
        let again = server_hello(TLS12, &[5; 32], 0x1302, RETRY, &chosen());
        turns.push((Server, [record(22, &again), change.clone()].concat()));
        turns.push((Client, [change.clone(), record(22, &hello)].concat()));
    }
    let answer = server_hello(TLS12, &[5; 32], 0x1301, [2; 32], &chosen());
    turns.push((
        Server,
        [record(22, &answer), change.clone(), record(23, &[0xcc; 700])].concat(),
    ));
    turns.push((Client, [change, record(23, &[0xbb; 60])].concat()));
    turns
}

#[test]
fn a_handshake_of_tls_1_2() {
    let read = hear(&tls12(None, false));
    let spoken = read.spoken();
    assert!(read.is_over() && !spoken.malformed && read.held_bytes() == 0);
    let hello = spoken.client_hello.as_ref().unwrap();
    assert_eq!(hello.server_name.as_deref(), Some("api.hospital.example"));
    assert_eq!(hello.protocols, ["h2", "http/1.1"]);
    let server = spoken.server_hello.as_ref().unwrap();
    assert_eq!((server.version, server.cipher), (TLS12, Cipher(0xc02f)));
    assert_eq!(
        server.cipher.name(),
        Some("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256")
    );
    assert_eq!(server.protocol.as_deref(), Some("http/1.1"));
    assert_eq!(spoken.resumed(), Some(false));
    assert!(spoken.flight_whole && !spoken.asked && !spoken.proven);
    let Shown::Chain(Some(certificate), 2) = &spoken.server_certificates else {
        panic!("no certificate");
    };
    assert_eq!(certificate.common_name, "api.hospital.example");
    assert_eq!(certificate.issuer_name, "Ward CA");
    assert_eq!(certificate.names, ["api.hospital.example", "*.hospital.example"]);
    assert_eq!(certificate.key, "ec-256");
    assert!(!certificate.self_signed && certificate.not_after_s > certificate.not_before_s);
    assert!(!certificate.serial.is_empty() && certificate.serial.len() <= 40);
}

#[test]
fn a_client_shows_a_certificate_or_none() {
    let (_, client, _) = certificates();
    let read = hear(&tls12(Some(&client), true));
    let spoken = read.spoken();
    assert!(spoken.asked && spoken.proven && !spoken.malformed);
    let Shown::Chain(Some(certificate), 1) = &spoken.client_certificates else {
        panic!("no certificate");
    };
    assert_eq!(certificate.common_name, "Ada Zebulon");
    let read = hear(&tls12(Some(&[]), true));
    assert!(read.spoken().client_certificates == Shown::None && !read.spoken().proven);
}

#[test]
fn a_certificate_that_signs_itself() {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["a.example".into()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "a.example");
    let der = params.self_signed(&key).unwrap().der().to_vec();
    let mut turns = vec![(Client, record(22, &client_hello(TLS12, &[], &[])))];
    let flight = [server_hello(TLS12, &[], 0x009c, [1; 32], &[]), chain(&[&der])].concat();
    turns.push((Server, record(22, &flight)));
    let read = hear(&turns);
    let Shown::Chain(Some(certificate), 1) = &read.spoken().server_certificates else {
        panic!("no certificate");
    };
    assert!(certificate.self_signed);
}

#[test]
fn a_handshake_of_tls_1_3_is_encrypted_behind_the_hellos() {
    for retried in [false, true] {
        let read = hear(&tls13(retried));
        let spoken = read.spoken();
        assert!(read.is_over() && !spoken.malformed, "retried: {retried}");
        assert_eq!(spoken.version(), Some(TLS13));
        assert_eq!(spoken.server_hello.as_ref().unwrap().cipher, Cipher(0x1301));
        let hello = spoken.client_hello.as_ref().unwrap();
        assert_eq!(hello.version_max, TLS13);
        assert_eq!(hello.server_name.as_deref(), Some("vendor.example"));
        assert!(hello.encrypted);
        assert!(spoken.server_certificates == Shown::Unknown);
        assert_eq!(spoken.resumed(), Some(false));
    }
}

#[test]
fn a_session_that_goes_on() {
    let turns = vec![
        (Client, record(22, &client_hello(TLS12, &[8; 32], &[]))),
        (
            Server,
            [
                record(22, &server_hello(TLS12, &[8; 32], 0xc02f, [1; 32], &[])),
                record(20, &[1]),
                record(22, &[0xdd; 40]),
            ]
            .concat(),
        ),
        (Client, [record(20, &[1]), record(22, &[0xee; 40])].concat()),
    ];
    let read = hear(&turns);
    assert_eq!(read.spoken().resumed(), Some(true));
    assert!(read.is_over() && !read.spoken().malformed);
    let versions = || extension(43, &[3, 4]);
    let turns = vec![
        (
            Client,
            record(22, &client_hello(TLS12, &[8; 32], &[extension(41, &[0; 40])])),
        ),
        (
            Server,
            record(
                22,
                &server_hello(
                    TLS12,
                    &[8; 32],
                    0x1301,
                    [1; 32],
                    &[versions(), extension(41, &[0, 0])],
                ),
            ),
        ),
    ];
    assert_eq!(hear(&turns).spoken().resumed(), Some(true));
}

#[test]
fn what_is_no_handshake_says_nothing_and_what_is_broken_is_malformed() {
    let hello = client_hello(TLS12, &[], &[server_name("a.example")]);
    for (what, bytes, named, malformed) in [
        (
            "SSL 2",
            vec![0x80, 0x2e, 1, 0, 2, 0, 21, 0, 0, 0, 16],
            false,
            false,
        ),
        ("HTTP", b"GET / HTTP/1.1\r\n\r\n".to_vec(), false, false),
        ("the middle of a connection", record(23, &[1; 50]), false, false),
        ("a beginning", record(22, &hello)[..20].to_vec(), false, false),
        (
            "no extensions",
            record(22, &client_hello(TLS12, &[], &[])),
            false,
            false,
        ),
        ("a name", record(22, &hello), true, false),
        (
            "a record without end",
            [&[22, 3, 1, 0xff, 0xff][..], &hello].concat(),
            false,
            false,
        ),
        (
            "an empty record",
            [record(22, &hello), record(22, &[])].concat(),
            true,
            true,
        ),
        (
            "another version of records",
            [record(22, &hello), vec![22, 4, 1, 0, 1, 0]].concat(),
            true,
            true,
        ),
        (
            "another kind of record",
            [record(22, &hello), vec![99, 3, 1, 0, 1, 0]].concat(),
            true,
            true,
        ),
        (
            "bytes behind the extensions",
            record(22, &{
                let mut longer = hello.clone();
                longer.push(0);
                longer[3] += 1;
                longer
            }),
            false,
            true,
        ),
        (
            "a name with a space",
            record(22, &client_hello(TLS12, &[], &[server_name("a b")])),
            false,
            true,
        ),
        (
            "an extension that is cut",
            record(22, &client_hello(TLS12, &[], &[vec![0, 0, 0, 9, 0]])),
            false,
            true,
        ),
        (
            "a message too long to be read",
            record(22, &[11, 0xff, 0, 0]),
            false,
            false,
        ),
        (
            "a message that is interrupted",
            [record(22, &hello[..20]), record(20, &[1])].concat(),
            false,
            true,
        ),
    ] {
        let read = hear(&vec![(Client, bytes)]);
        let spoken = read.spoken();
        let name = spoken
            .client_hello
            .as_ref()
            .and_then(|hello| hello.server_name.as_deref());
        assert_eq!((name.is_some(), spoken.malformed), (named, malformed), "{what}");
    }
    // Both sides say that they are the client.
    let turns = vec![(Client, record(22, &hello)), (Server, record(22, &hello))];
    assert!(hear(&turns).spoken().malformed);
}

#[test]
fn bytes_that_are_missing_end_their_direction_alone() {
    let turns = tls12(None, false);
    let mut read = TlsHandshake::default();
    assert!(read.take(Client, 100, &turns[0].1));
    assert!(!read.take(Client, 100, &turns[0].1), "a duplicate");
    read.take(Server, 7, &turns[1].1[..200]);
    read.take(Server, 500, &turns[1].1[493..]);
    let spoken = read.spoken();
    assert!(spoken.client_hello.is_some() && spoken.server_hello.is_some());
    assert!(spoken.server_certificates == Shown::Unknown && !spoken.flight_whole && !spoken.malformed);
}

#[test]
fn ciphers_and_versions_have_their_registered_names() {
    for (value, name) in [
        (0x1301, Some("TLS_AES_128_GCM_SHA256")),
        (0xcca8, Some("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256")),
        (0x000a, Some("TLS_RSA_WITH_3DES_EDE_CBC_SHA")),
        (0xfefe, None),
    ] {
        assert_eq!(Cipher(value).name(), name, "{value:#x}");
    }
    assert_eq!(Version(0x0302).name(), "1.1");
    assert_eq!(Version(0x7f1c).name(), "");
}

fn same(one: &Spoken, other: &Spoken) -> bool {
    one.client_hello == other.client_hello
        && one.server_hello == other.server_hello
        && one.server_certificates == other.server_certificates
        && one.client_certificates == other.client_certificates
        && (one.asked, one.flight_whole, one.proven, one.malformed)
            == (other.asked, other.flight_whole, other.proven, other.malformed)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn split_anywhere_it_says_the_same(sizes in proptest::collection::vec(1usize..200, 1..60), three in any::<bool>()) {
        let turns = if three { tls13(true) } else { tls12(Some(&certificates().1), true) };
        let whole = hear(&turns);
        let mut sizes = sizes.iter().cycle();
        let mut pieces = Vec::new();
        for (direction, bytes) in &turns {
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                let (piece, more) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
                pieces.push((*direction, piece.to_vec()));
                rest = more;
            }
        }
        prop_assert!(same(whole.spoken(), hear(&pieces).spoken()));
    }

    #[test]
    fn damage_never_harms(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>(), three in any::<bool>()) {
        let mut turns = if three { tls13(true) } else { tls12(Some(&certificates().1), true) };
        for (_, bytes) in &mut turns {
            let place = at.index(bytes.len());
            bytes[place] = byte;
            bytes.truncate(cut.index(bytes.len()) + 1);
        }
        let read = hear(&turns);
        prop_assert!(read.held_bytes() <= 4 * MESSAGE_BYTES_MAX);
    }
}
