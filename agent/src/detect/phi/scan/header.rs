//! Header fields: credentials, cookies, and what a field's name says.

use super::*;

impl Walk {
    /// A header field.
    pub(super) fn header(&mut self, name: &[u8], value: &[u8]) {
        if is_quiet(name) {
            return;
        }
        let key = self.keys.get(name, &self.shown);
        let token = |walk: &mut Walk, class: Class, value: &[u8]| {
            walk.hit(
                class as ClassId,
                Owner::Unknown,
                Evidence::Structure,
                98,
                name,
                Key {
                    id: key.id.max(1),
                    ..key
                },
                value,
            );
        };
        match name {
            b"authorization" | b"proxy-authorization" => {
                let space = memchr::memchr(b' ', value).unwrap_or(0);
                let basic = value[..space].eq_ignore_ascii_case(b"basic");
                let class = if basic { Class::Password } else { Class::Token };
                token(self, class, value[space..].trim_ascii());
            }
            b"x-api-key"
            | b"api-key"
            | b"apikey"
            | b"x-auth-token"
            | b"x-access-token"
            | b"x-amz-security-token" => {
                token(self, Class::Token, value);
            }
            b"cookie" | b"set-cookie" => {
                for pair in value
                    .split(|byte| *byte == b';')
                    .take(if name == b"cookie" { 64 } else { 1 })
                {
                    let Some(equals) = memchr::memchr(b'=', pair) else {
                        continue;
                    };
                    let (cookie, value) = (
                        pair[..equals].trim_ascii().to_ascii_lowercase(),
                        pair[equals + 1..].trim_ascii(),
                    );
                    let session = [b"sess".as_slice(), b"sid", b"token", b"auth", b"jwt"];
                    if value.len() >= 8
                        && session
                            .iter()
                            .any(|part| memchr::memmem::find(&cookie, part).is_some())
                    {
                        token(self, Class::Token, value);
                    } else {
                        self.look(
                            Key {
                                id: key.id.max(1),
                                ..Key::default()
                            },
                            name,
                            Some(0),
                            ValueType::Text,
                            value,
                        );
                    }
                }
            }
            _ => self.place(key, name, Some(0), ValueType::Text, value),
        }
    }
}

/// Header fields of the connection and its tools: what is in them is nobody's, or is told elsewhere.
fn is_quiet(name: &[u8]) -> bool {
    // By the first letter, so that a name is compared with few.
    match name.first() {
        Some(b'a') => matches!(
            name,
            b"accept"
                | b"accept-encoding"
                | b"accept-language"
                | b"accept-charset"
                | b"age"
                | b"accept-ranges"
                | b"alt-svc"
        ),
        Some(b'b') => matches!(name, b"baggage"),
        Some(b'c') => matches!(
            name,
            b"connection"
                | b"content-type"
                | b"content-length"
                | b"content-encoding"
                | b"cache-control"
                | b"content-range"
                | b"cf-ray"
                | b"content-security-policy"
        ),
        Some(b'd') => matches!(name, b"date"),
        Some(b'e') => matches!(name, b"etag" | b"expires" | b"expect"),
        Some(b'f') => matches!(name, b"forwarded"),
        Some(b'h') => matches!(name, b"host"),
        Some(b'i') => matches!(
            name,
            b"if-none-match" | b"if-match" | b"if-modified-since" | b"if-unmodified-since"
        ),
        Some(b'k') => matches!(name, b"keep-alive"),
        Some(b'l') => matches!(name, b"last-modified" | b"link"),
        Some(b'o') => matches!(name, b"origin"),
        Some(b'p') => matches!(name, b"pragma"),
        Some(b'r') => matches!(name, b"range"),
        Some(b's') => matches!(
            name,
            b"server" | b"strict-transport-security" | b"sec-websocket-key" | b"sec-websocket-accept"
        ),
        Some(b't') => matches!(
            name,
            b"transfer-encoding" | b"te" | b"trailer" | b"traceparent" | b"tracestate"
        ),
        Some(b'u') => matches!(name, b"user-agent" | b"upgrade"),
        Some(b'v') => matches!(name, b"vary" | b"via"),
        Some(b'x') => matches!(
            name,
            b"x-request-id"
                | b"x-correlation-id"
                | b"x-forwarded-for"
                | b"x-real-ip"
                | b"x-forwarded-host"
                | b"x-forwarded-proto"
                | b"x-amzn-trace-id"
                | b"x-amz-date"
                | b"x-amz-content-sha256"
        ),
        _ => false,
    }
}
