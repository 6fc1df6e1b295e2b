//! What a request's credentials are, without the credentials: kinds, places, claims that matter, and whose they are as a
//! keyed hash.
//!
//! A token is read and not verified: whether it is valid is the application's to say. Scopes are shown where the grammar
//! of OpenID Connect and SMART on FHIR has them; issuer and audience as hosts are. It must not judge: that is for `detect`.

use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use base64::engine::{DecodePaddingMode, general_purpose};
use bytes::Bytes;
use smol_str::{SmolStr, format_smolstr};

use super::redact::Redactor;
use super::semantics::json::{self, Value};
use super::semantics::query;

/// Longest token that is read.
const TOKEN_BYTES_MAX: usize = 16 * 1024;
/// Scopes that are told.
const SCOPES_MAX: usize = 32;
/// Cookies of one request that are looked at.
const COOKIES_MAX: usize = 64;

/// Base64 as tokens and browsers write it, padded or not.
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&base64::alphabet::URL_SAFE, INDIFFERENT);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&base64::alphabet::STANDARD, INDIFFERENT);
const INDIFFERENT: GeneralPurposeConfig = general_purpose::NO_PAD
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);

/// Facts of a request's credentials that may leave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    /// Keyed hash of who it is: the token's subject, the user, the key.
    pub principal: Option<SmolStr>,
    /// What that is the hash of: `subject`, `client`, `user`, `api-key`, `access-key`, `token`, `certificate`; empty:
    /// nothing.
    pub principal_kind: &'static str,
    /// `header`, `query` or `cookie`; empty: no API key.
    pub api_key_in: &'static str,
    pub session_cookie: bool,
    /// The connection's client showed a certificate, and proved that it is its own (mutual TLS).
    pub client_certificate: bool,
    /// A key, token or password stands in the target, where logs keep it.
    pub in_url: bool,
    pub jwt: Option<Box<Jwt>>,
    /// AWS Signature Version 4: the service and region that it is for.
    pub aws: Option<(SmolStr, SmolStr)>,
}

/// Facts of a JSON Web Token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Jwt {
    /// A registered name of an algorithm, else `other`. `none`: it is not signed.
    pub alg: SmolStr,
    /// Hosts, redacted like others.
    pub issuer: SmolStr,
    pub audience: SmolStr,
    /// In seconds since 1970.
    pub expires: Option<i64>,
    /// From its issue to its end, in seconds.
    pub lifetime_s: Option<i64>,
    /// Those of known grammar; others are `other`.
    pub scopes: Vec<SmolStr>,
}

/// Claims as they are, for `detect` and `policy` alone.
#[derive(Clone, Default)]
pub struct Claims {
    pub issuer: String,
    pub audience: String,
    pub subject: String,
}

/// RFC 7518 §3.1, RFC 8037, RFC 8812; encrypted ones by RFC 7518 §4.1.
const ALGORITHMS: &[&str] = &[
    "none",
    "HS256",
    "HS384",
    "HS512",
    "RS256",
    "RS384",
    "RS512",
    "ES256",
    "ES384",
    "ES512",
    "ES256K",
    "PS256",
    "PS384",
    "PS512",
    "EdDSA",
    "Ed25519",
    "RSA-OAEP",
    "RSA-OAEP-256",
    "RSA1_5",
    "dir",
    "A128KW",
    "A256KW",
    "ECDH-ES",
    "ECDH-ES+A128KW",
    "ECDH-ES+A256KW",
];
/// Headers that carry an API key.
const KEY_HEADERS: &[&[u8]] = &[
    b"x-api-key",
    b"api-key",
    b"apikey",
    b"x-apikey",
    b"x-goog-api-key",
    b"x-auth-token",
    b"x-access-token",
    b"ocp-apim-subscription-key",
    b"x-functions-key",
    b"x-vault-token",
];
/// Parameters and cookies that carry one.
const KEY_NAMES: &[&str] = &[
    "api_key",
    "apikey",
    "api-key",
    "x-api-key",
    "subscription-key",
    "access_key",
    "app_key",
    "client_secret",
];
/// Parameters that carry a token or a password.
const SECRET_NAMES: &[&str] = &[
    "access_token",
    "auth_token",
    "id_token",
    "refresh_token",
    "token",
    "jwt",
    "password",
    "passwd",
    "pwd",
    "secret",
    "client_secret",
];
/// Cookies that stand for a session.
const SESSION_NAMES: &[&str] = &[
    "jsessionid",
    "phpsessid",
    "asp.net_sessionid",
    "aspsessionid",
    "connect.sid",
    "session",
    "session_id",
    "sessionid",
    "sid",
    "sess",
    "laravel_session",
    "ci_session",
    "cfid",
    "cftoken",
    "remember_me",
    "auth",
    "auth_token",
    "access_token",
    "id_token",
    "token",
    "jwt",
    ".aspxauth",
    ".aspnetcore.session",
    ".aspnetcore.cookies",
    ".aspnetcore.identity.application",
    "authelia_session",
    "grafana_session",
    "_oauth2_proxy",
    "openemr",
    "sugar_user_theme",
];
/// AWS services that health care uses most; others are hashed.
const AWS_SERVICES: &[&str] = &[
    "s3",
    "sts",
    "iam",
    "ec2",
    "sqs",
    "sns",
    "ses",
    "kms",
    "logs",
    "monitoring",
    "dynamodb",
    "lambda",
    "execute-api",
    "secretsmanager",
    "ssm",
    "rds",
    "ecs",
    "ecr",
    "eks",
    "events",
    "kinesis",
    "firehose",
    "states",
    "healthlake",
    "medical-imaging",
    "comprehendmedical",
    "textract",
    "transcribe",
    "bedrock",
    "bedrock-runtime",
    "cognito-idp",
    "es",
    "aoss",
    "glue",
    "athena",
    "redshift",
    "elasticloadbalancing",
];

/// Reads a request's credentials. `None`: it has none that are told apart from `auth`.
pub(super) fn read(
    headers: &[(Bytes, Bytes)],
    query: &[u8],
    redactor: &mut Redactor,
) -> (Option<Box<Credentials>>, Claims) {
    let mut found = Credentials::default();
    let mut claims = Claims::default();
    let mut bearer = None;
    let mut cookie_token = None;
    for (name, value) in headers {
        match name.as_ref() {
            b"authorization" if bearer.is_none() => bearer = authorization(value, &mut found, redactor),
            b"cookie" => cookies(value, &mut found, &mut cookie_token, redactor),
            name if KEY_HEADERS.contains(&name) => api_key(value, "header", &mut found, redactor),
            _ => {}
        }
    }
    let mut query_token = None;
    if !query.is_empty() {
        parameters(query, &mut found, &mut query_token, redactor);
    }
    for token in [bearer, cookie_token, query_token].into_iter().flatten() {
        if let Some(jwt) = jwt(&token, &mut claims, redactor) {
            let (kind, subject) = match claims.subject.split_once('\0') {
                Some((_, client)) => ("client", client.to_owned()),
                None => ("subject", claims.subject.clone()),
            };
            claims.subject = subject;
            if !claims.subject.is_empty() {
                found.principal_kind = kind;
                found.principal = Some(redactor.keyed(b"principal", claims.subject.as_bytes()));
            }
            found.jwt = Some(Box::new(jwt));
            break;
        }
        if found.principal.is_none() {
            found.principal_kind = "token";
            found.principal = Some(redactor.keyed(b"principal", &token));
        }
    }
    let told = found != Credentials::default();
    (told.then(|| Box::new(found)), claims)
}

/// Returns a bearer token.
fn authorization(value: &Bytes, found: &mut Credentials, redactor: &Redactor) -> Option<Bytes> {
    let space = memchr::memchr(b' ', value)?;
    let (scheme, rest) = (&value[..space], value.slice(space..));
    let skip = rest.len() - rest.trim_ascii_start().len();
    let rest = rest.slice(skip..);
    if rest.is_empty() {
        return None;
    }
    if scheme.eq_ignore_ascii_case(b"bearer") {
        return Some(rest);
    }
    if scheme.eq_ignore_ascii_case(b"basic") {
        let plain = STANDARD.decode(&rest[..rest.len().min(TOKEN_BYTES_MAX)]).ok()?;
        let user = plain.split(|byte| *byte == b':').next().unwrap_or_default();
        principal("user", user, found, redactor);
    } else if scheme.eq_ignore_ascii_case(b"aws4-hmac-sha256") {
        let text = String::from_utf8_lossy(&rest);
        let scope = text.split("Credential=").nth(1).unwrap_or_default();
        credential_scope(
            scope.split([',', ' ']).next().unwrap_or_default(),
            found,
            redactor,
        );
    } else if scheme.eq_ignore_ascii_case(b"apikey") || scheme.eq_ignore_ascii_case(b"api-key") {
        api_key(&rest, "header", found, redactor);
    } else if scheme.eq_ignore_ascii_case(b"digest") {
        let text = String::from_utf8_lossy(&rest);
        let user = text
            .split("username=\"")
            .nth(1)
            .and_then(|rest| rest.split('"').next());
        principal("user", user.unwrap_or_default().as_bytes(), found, redactor);
    }
    None
}

/// `AKID/20260101/eu-central-1/s3/aws4_request`
fn credential_scope(scope: &str, found: &mut Credentials, redactor: &Redactor) {
    let mut parts = scope.split('/');
    let (key, _date, region, service) = (parts.next(), parts.next(), parts.next(), parts.next());
    let (Some(key), Some(region), Some(service)) = (key, region, service) else {
        return;
    };
    principal("access-key", key.as_bytes(), found, redactor);
    let service = match AWS_SERVICES.contains(&service) {
        true => SmolStr::new(service),
        false => redactor.system(service.as_bytes()),
    };
    let region = match is_region(region) {
        true => SmolStr::new(region),
        false => SmolStr::new_static("other"),
    };
    found.aws = Some((service, region));
}

/// `eu-central-1`, `us-gov-west-1`
fn is_region(region: &str) -> bool {
    let parts: Vec<&str> = region.split('-').collect();
    (3..=4).contains(&parts.len())
        && parts[0].len() == 2
        && parts[..parts.len() - 1]
            .iter()
            .all(|part| (2..=9).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_lowercase()))
        && parts[parts.len() - 1].len() == 1
        && parts[parts.len() - 1].bytes().all(|byte| byte.is_ascii_digit())
}

fn principal(kind: &'static str, value: &[u8], found: &mut Credentials, redactor: &Redactor) {
    if !value.is_empty() && found.principal.is_none() {
        found.principal_kind = kind;
        found.principal = Some(redactor.keyed(b"principal", value));
    }
}

fn api_key(value: &[u8], place: &'static str, found: &mut Credentials, redactor: &Redactor) {
    if !value.is_empty() && found.api_key_in.is_empty() {
        found.api_key_in = place;
        principal("api-key", value, found, redactor);
    }
}

fn cookies(value: &Bytes, found: &mut Credentials, token: &mut Option<Bytes>, redactor: &Redactor) {
    for pair in value.split(|byte| *byte == b';').take(COOKIES_MAX) {
        let Some(at) = memchr::memchr(b'=', pair) else {
            continue;
        };
        let name = String::from_utf8_lossy(pair[..at].trim_ascii()).to_ascii_lowercase();
        // RFC 6265bis prefixes.
        let name = name
            .strip_prefix("__host-")
            .or_else(|| name.strip_prefix("__secure-"))
            .unwrap_or(&name);
        let value = pair[at + 1..].trim_ascii();
        if KEY_NAMES.contains(&name) {
            api_key(value, "cookie", found, redactor);
        } else if SESSION_NAMES.contains(&name) || name.ends_with("session") || name.ends_with("sessionid") {
            found.session_cookie = true;
            if token.is_none() && looks_like_jwt(value) {
                *token = Some(Bytes::copy_from_slice(value));
            }
        }
    }
}

fn parameters(query: &[u8], found: &mut Credentials, token: &mut Option<Bytes>, redactor: &Redactor) {
    for (name, value) in query::pairs(query) {
        if value.is_empty() {
            continue;
        }
        let name = String::from_utf8_lossy(&name).to_ascii_lowercase();
        match name.as_str() {
            name if KEY_NAMES.contains(&name) => {
                found.in_url = true;
                api_key(&value, "query", found, redactor);
            }
            // Google's, by its shape.
            "key" if value.starts_with(b"AIza") => {
                found.in_url = true;
                api_key(&value, "query", found, redactor);
            }
            // A signed link is made to be handed on; whose it is is told all the same.
            "x-amz-credential" => credential_scope(&String::from_utf8_lossy(&value), found, redactor),
            name if SECRET_NAMES.contains(&name) => {
                found.in_url = true;
                if token.is_none() && looks_like_jwt(&value) {
                    *token = Some(Bytes::copy_from_slice(&value));
                }
            }
            _ => {}
        }
    }
}

/// Three parts, of which the first is a JSON object in base64.
fn looks_like_jwt(token: &[u8]) -> bool {
    token.starts_with(b"eyJ") && token.iter().filter(|byte| **byte == b'.').count() >= 2
}

/// Reads a token. The subject comes as it is, or, where there is only a client, behind a NUL.
fn jwt(token: &[u8], claims: &mut Claims, redactor: &mut Redactor) -> Option<Jwt> {
    if !looks_like_jwt(token) || token.len() > TOKEN_BYTES_MAX {
        return None;
    }
    let mut parts = token.split(|byte| *byte == b'.');
    let header = URL_SAFE.decode(parts.next()?).ok()?;
    let mut jwt = Jwt::default();
    let mut known = false;
    json::walk(&header, 1, &mut |path, value| {
        if let (1, Value::Text(text)) = (path.len(), value)
            && path[0].as_str() == "alg"
        {
            known = true;
            let name = ALGORITHMS.iter().find(|name| name.eq_ignore_ascii_case(text));
            jwt.alg = SmolStr::new_static(name.copied().unwrap_or("other"));
        }
    });
    if !known {
        return None;
    }
    // An encrypted one (five parts) says no more.
    let payload = URL_SAFE.decode(parts.next()?).unwrap_or_default();
    let (mut client, mut issued) = (String::new(), None);
    let mut scopes: Vec<SmolStr> = Vec::new();
    json::walk(&payload, 2, &mut |path, value| {
        let Some(name) = path.first().map(json::Step::as_str) else {
            return;
        };
        match (name, value) {
            ("iss", Value::Text(text)) => claims.issuer = text.to_owned(),
            ("aud", Value::Text(text)) if claims.audience.is_empty() => claims.audience = text.to_owned(),
            ("sub", Value::Text(text)) => claims.subject = text.to_owned(),
            ("client_id" | "azp" | "appid", Value::Text(text)) if client.is_empty() => {
                client = text.to_owned()
            }
            ("exp", Value::Number(seconds)) => jwt.expires = Some(seconds as i64),
            ("iat" | "nbf", Value::Number(seconds)) => issued = Some(seconds as i64),
            ("scope" | "scp", Value::Text(text)) => {
                for scope in text.split_ascii_whitespace() {
                    let scope = self::scope(scope);
                    if scopes.len() < SCOPES_MAX && !scopes.contains(&scope) {
                        scopes.push(scope);
                    }
                }
            }
            _ => {}
        }
    });
    if claims.subject.is_empty() && !client.is_empty() {
        claims.subject = format!("\0{client}");
    }
    jwt.scopes = scopes;
    jwt.lifetime_s = jwt
        .expires
        .zip(issued)
        .map(|(expires, issued)| expires.saturating_sub(issued));
    jwt.issuer = party(&claims.issuer, redactor);
    jwt.audience = party(&claims.audience, redactor);
    Some(jwt)
}

/// A host, if it is a URI with one; else the name of a system.
fn party(name: &str, redactor: &mut Redactor) -> SmolStr {
    if name.is_empty() {
        return SmolStr::default();
    }
    let host = name
        .split_once("://")
        .map(|(_, rest)| rest.split(['/', '?', '#']).next().unwrap_or_default())
        .map(|authority| authority.rsplit('@').next().unwrap_or_default());
    match host {
        Some(host) if !host.is_empty() => {
            let bare = host
                .rsplit_once(':')
                .map_or(host, |(bare, port)| match port.parse::<u16>() {
                    Ok(_) => bare,
                    Err(_) => host,
                });
            match bare.parse::<IpAddr>() {
                Ok(address) => format_smolstr!("{address}"),
                Err(_) => redactor.host(&bare.to_ascii_lowercase(), None),
            }
        }
        _ => redactor.system(name.as_bytes()),
    }
}

/// A scope of OpenID Connect or SMART on FHIR as it is, without a query; others are `other`.
fn scope(scope: &str) -> SmolStr {
    const KNOWN: &[&str] = &[
        "openid",
        "profile",
        "email",
        "address",
        "phone",
        "fhirUser",
        "launch",
        "launch/patient",
        "launch/encounter",
        "offline_access",
        "online_access",
        "smart/orchestrate_launch",
    ];
    if KNOWN.contains(&scope) {
        return SmolStr::new(scope);
    }
    let bare = scope.split('?').next().unwrap_or_default();
    let smart = bare.split_once('/').and_then(|(context, rest)| {
        let (kind, access) = rest.split_once('.')?;
        let known = ["patient", "user", "system"].contains(&context)
            && (kind == "*" || super::semantics::is_fhir_type(kind))
            && (["read", "write", "*"].contains(&access)
                || (!access.is_empty()
                    && access.len() <= 5
                    && access.bytes().all(|byte| b"cruds".contains(&byte))));
        known.then(|| SmolStr::new(bare))
    });
    smart.unwrap_or(SmolStr::new_static("other"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::redact::Earning;

    fn read_all(headers: &[(&'static str, String)], query: &str) -> (Option<Box<Credentials>>, Claims) {
        let headers: Vec<(Bytes, Bytes)> = headers
            .iter()
            .map(|(name, value)| (Bytes::from_static(name.as_bytes()), Bytes::from(value.clone())))
            .collect();
        let mut redactor = Redactor::new([1; 32], Earning::default());
        redactor.set_literals(&["idp.hospital.example".into()]);
        read(&headers, query.as_bytes(), &mut redactor)
    }

    fn token(header: &str, payload: &str) -> String {
        format!("{}.{}.c2ln", URL_SAFE.encode(header), URL_SAFE.encode(payload))
    }

    #[test]
    fn tokens() {
        let payload = r#"{"iss":"https://idp.hospital.example/realm","aud":["https://fhir.unknown.example"],"sub":"zebulon","iat":1000,"exp":4600,
            "scope":"openid patient/Observation.rs?category=x system/*.read launch/patient user/Zebulon.read staff-7"}"#;
        let (found, claims) = read_all(
            &[(
                "authorization",
                format!("Bearer {}", token(r#"{"alg":"RS256"}"#, payload)),
            )],
            "",
        );
        let found = found.unwrap();
        let jwt = found.jwt.as_ref().unwrap();
        assert_eq!(
            (jwt.alg.as_str(), jwt.issuer.as_str()),
            ("RS256", "idp.hospital.example")
        );
        assert!(jwt.audience.starts_with("host-"));
        assert_eq!((jwt.expires, jwt.lifetime_s), (Some(4600), Some(3600)));
        assert_eq!(
            jwt.scopes,
            [
                "openid",
                "patient/Observation.rs",
                "system/*.read",
                "launch/patient",
                "other"
            ]
        );
        assert_eq!(
            (found.principal_kind, claims.subject.as_str()),
            ("subject", "zebulon")
        );
        assert!(!format!("{found:?}").contains("zebulon") && !format!("{found:?}").contains("unknown"));
        let (found, _) = read_all(
            &[(
                "authorization",
                format!("bearer {}", token(r#"{"alg":"None"}"#, r#"{"client_id":"svc"}"#)),
            )],
            "",
        );
        let found = found.unwrap();
        assert_eq!(
            (found.jwt.unwrap().alg.as_str(), found.principal_kind),
            ("none", "client")
        );
    }

    #[test]
    fn everything_else() {
        let one = |name: &'static str, value: &str, query: &str| {
            let headers = [(name, value.to_owned())];
            let (found, _) = read_all(&headers, query);
            found.map(|found| {
                format!(
                    "{} {} session={} url={} {:?}",
                    found.principal_kind, found.api_key_in, found.session_cookie, found.in_url, found.aws
                )
            })
        };
        for (name, value, query, expected) in [
            (
                "authorization",
                "Basic YWRhOnB3",
                "",
                "user  session=false url=false None",
            ),
            (
                "authorization",
                "Bearer opaque",
                "",
                "token  session=false url=false None",
            ),
            (
                "authorization",
                "Digest username=\"ada\", realm=\"x\"",
                "",
                "user  session=false url=false None",
            ),
            (
                "authorization",
                "AWS4-HMAC-SHA256 Credential=AKID/20260101/eu-central-1/s3/aws4_request, SignedHeaders=host, Signature=1",
                "",
                "access-key  session=false url=false Some((\"s3\", \"eu-central-1\"))",
            ),
            (
                "x-api-key",
                "k",
                "",
                "api-key header session=false url=false None",
            ),
            (
                "accept",
                "*/*",
                "a=1&api_key=k",
                "api-key query session=false url=true None",
            ),
            (
                "accept",
                "*/*",
                "access_token=opaque",
                "  session=false url=true None",
            ),
            (
                "cookie",
                "theme=dark; __Host-JSESSIONID=1",
                "",
                "  session=true url=false None",
            ),
            (
                "cookie",
                "api_key=k",
                "",
                "api-key cookie session=false url=false None",
            ),
        ] {
            assert_eq!(
                one(name, value, query).as_deref(),
                Some(expected),
                "{name}: {value} {query}"
            );
        }
        assert_eq!(one("accept", "*/*", "token=&a=1"), None);
        assert_eq!(one("cookie", "theme=dark", ""), None);
        assert_eq!(one("authorization", "Basic", ""), None);
        assert!(one("authorization", "Bearer eyJ.eyJ.x", "").is_some());
    }
}
