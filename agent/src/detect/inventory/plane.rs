//! Whether a call steers an infrastructure or moves an application's data, and for the well-known clouds what it does:
//! by host and request shape.
//!
//! The answers are shipped words and action names of the clouds' own references; nothing that a caller chose, unless it
//! has the shape of an action's name and stands where the cloud reads one. It must not know who calls.
//!
//! Sources: Kubernetes API concepts (paths), AWS General Reference (endpoints; `X-Amz-Target`, `Action=`, S3 REST),
//! Google APIs (hosts), Azure Resource Manager (hosts), instance metadata: AWS, Azure and Google at 169.254.169.254.

use std::net::{IpAddr, Ipv4Addr};

use smol_str::{SmolStr, format_smolstr};

use crate::call::{ApiCall, Segments, Shape};

/// What a call is part of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Plane {
    #[default]
    Data,
    Control,
}

/// What was recognised. `service`: `kubernetes`, `instance-metadata`, `aws`, `gcp`, `azure`; empty: nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recognised {
    pub plane: Plane,
    pub service: SmolStr,
    /// `s3:GetObject`, `list pods`.
    pub action: SmolStr,
}

const METADATA: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254));
/// AWS services whose calls move data; all others of AWS are control.
const AWS_DATA: &[&str] = &[
    "s3",
    "dynamodb",
    "sqs",
    "sns",
    "kinesis",
    "firehose",
    "streams.dynamodb",
    "runtime",
    "bedrock-runtime",
    "healthlake",
    "comprehendmedical",
    "medical-imaging",
    "transcribe",
    "textract",
    "logs",
    "es",
    "data-ats",
    "secretsmanager",
    "ssm",
];
const ACTION_BYTES_MAX: usize = 64;

impl Recognised {
    /// What a call shows of it.
    pub fn of(call: &ApiCall) -> Recognised {
        let host = call.raw.host.as_str();
        let path = call.raw.path.as_deref().unwrap_or_default();
        let remote = call.flow.remote.map(|remote| remote.ip().to_canonical());
        if remote == Some(METADATA) || host == "metadata.google.internal" || host == "169.254.169.254" {
            return control("instance-metadata", metadata(path));
        }
        if let Some(action) = kubernetes(call, path) {
            return control("kubernetes", action);
        }
        if let Some(rest) = host
            .strip_suffix(".amazonaws.com")
            .or_else(|| host.strip_suffix(".amazonaws.com.cn"))
        {
            return aws(call, rest, path);
        }
        if let Some(service) = host.strip_suffix(".googleapis.com") {
            let data = matches!(
                service,
                "storage" | "bigquery" | "healthcare" | "pubsub" | "firestore" | "datastore"
            );
            return Recognised {
                plane: if data { Plane::Data } else { Plane::Control },
                service: "gcp".into(),
                action: word(service).map(SmolStr::new).unwrap_or_default(),
            };
        }
        if matches!(
            host,
            "management.azure.com" | "graph.microsoft.com" | "login.microsoftonline.com"
        ) {
            return control(
                "azure",
                host.split('.').next().map(SmolStr::new).unwrap_or_default(),
            );
        }
        for (suffix, service) in [
            (".blob.core.windows.net", "blob"),
            (".queue.core.windows.net", "queue"),
            (".table.core.windows.net", "table"),
            (".vault.azure.net", "keyvault"),
            (".azurehealthcareapis.com", "healthcare"),
        ] {
            if host.ends_with(suffix) {
                return Recognised {
                    plane: Plane::Data,
                    service: "azure".into(),
                    action: service.into(),
                };
            }
        }
        Recognised::default()
    }
}

fn control(service: &'static str, action: SmolStr) -> Recognised {
    Recognised {
        plane: Plane::Control,
        service: SmolStr::new_static(service),
        action,
    }
}

fn metadata(path: &str) -> SmolStr {
    let credentials = path.contains("/security-credentials")
        || path.contains("/token")
        || path.contains("/identity/oauth2");
    SmolStr::new_static(if credentials { "credentials" } else { "read" })
}

/// `/api/v1/…`, `/apis/group/version/…` with what only the Kubernetes API has: a namespace, a known collection, or its
/// discovery.
fn kubernetes(call: &ApiCall, path: &str) -> Option<SmolStr> {
    let mut parts = Segments::of(path).filter(|part| !part.is_empty());
    let rest: Vec<&str> = match parts.next()? {
        "api" if parts.next()? == "v1" => parts.collect(),
        "apis" => {
            let group = parts.next()?;
            let version = parts.next()?;
            let is_group = group.contains('.')
                || matches!(group, "apps" | "batch" | "autoscaling" | "policy" | "extensions");
            (is_group && version.starts_with('v')).then(|| parts.collect())?
        }
        _ => return None,
    };
    let (namespaced, rest) = match rest.as_slice() {
        ["namespaces", _, rest @ ..] if !rest.is_empty() => (true, rest),
        rest => (false, rest),
    };
    const COLLECTIONS: &[&str] = &[
        "pods",
        "services",
        "endpoints",
        "nodes",
        "namespaces",
        "secrets",
        "configmaps",
        "serviceaccounts",
        "events",
        "persistentvolumes",
        "persistentvolumeclaims",
        "replicationcontrollers",
        "deployments",
        "statefulsets",
        "daemonsets",
        "replicasets",
        "jobs",
        "cronjobs",
        "ingresses",
        "networkpolicies",
        "roles",
        "rolebindings",
        "clusterroles",
        "clusterrolebindings",
        "customresourcedefinitions",
        "leases",
        "endpointslices",
        "tokenreviews",
        "subjectaccessreviews",
    ];
    let collection = rest.first()?;
    let known = COLLECTIONS.iter().find(|known| *known == collection);
    if known.is_none() && !namespaced {
        return None;
    }
    let watches = call.raw.query.windows(5).any(|part| part == b"watch");
    let verb = match (call.request.method.as_str(), rest.len()) {
        ("GET", 1) if watches => "watch",
        ("GET", 1) => "list",
        ("GET", _) => "get",
        ("POST", 1) => "create",
        ("POST", _) => "connect",
        ("PUT", _) => "update",
        ("PATCH", _) => "patch",
        ("DELETE", 1) => "deletecollection",
        ("DELETE", _) => "delete",
        _ => "other",
    };
    let sub = rest.get(2).and_then(|sub| {
        [
            "exec",
            "attach",
            "log",
            "portforward",
            "proxy",
            "status",
            "scale",
            "eviction",
            "token",
        ]
        .into_iter()
        .find(|known| known == sub)
    });
    Some(match sub {
        Some(sub) => format_smolstr!("{verb} {}/{sub}", known.unwrap_or(&"custom")),
        None => format_smolstr!("{verb} {}", known.unwrap_or(&"custom")),
    })
}

/// `s3.eu-west-1`, `bucket.s3`, `dynamodb.us-east-1`: the service is the last label that is no region.
fn aws(call: &ApiCall, labels: &str, path: &str) -> Recognised {
    let is_region =
        |label: &str| label.matches('-').count() >= 2 && label.ends_with(|one: char| one.is_ascii_digit());
    let mut labels: Vec<&str> = labels
        .split('.')
        .filter(|label| !is_region(label) && *label != "dualstack")
        .collect();
    let service = labels.pop().unwrap_or_default();
    let service = service.strip_prefix("s3-").map_or(service, |_| "s3");
    let Some(service) = word(service) else {
        return Recognised {
            service: "aws".into(),
            ..Recognised::default()
        };
    };
    let action = match service {
        "s3" => Some(s3(call, path, !labels.is_empty())),
        _ => target(call).or_else(|| query_action(call)),
    };
    Recognised {
        plane: if AWS_DATA.contains(&service) {
            Plane::Data
        } else {
            Plane::Control
        },
        service: "aws".into(),
        action: match action {
            Some(action) => format_smolstr!("{service}:{action}"),
            None => SmolStr::new(service),
        },
    }
}

fn s3(call: &ApiCall, path: &str, bucket_in_host: bool) -> SmolStr {
    let parts = path.split('/').filter(|part| !part.is_empty()).count();
    let depth = parts + usize::from(bucket_in_host);
    let asks = |name: &[u8]| {
        call.raw
            .query
            .split(|byte| *byte == b'&')
            .any(|part| part.split(|byte| *byte == b'=').next() == Some(name))
    };
    let copies = call
        .raw
        .request_headers
        .iter()
        .any(|(name, _)| name.as_ref() == b"x-amz-copy-source");
    SmolStr::new_static(match (call.request.method.as_str(), depth) {
        ("GET", 0) => "ListBuckets",
        ("GET", 1) if asks(b"location") => "GetBucketLocation",
        ("GET", 1) if asks(b"policy") => "GetBucketPolicy",
        ("GET", 1) if asks(b"acl") => "GetBucketAcl",
        ("GET", 1) if asks(b"versions") => "ListObjectVersions",
        ("GET", 1) => "ListObjectsV2",
        ("GET", _) if asks(b"acl") => "GetObjectAcl",
        ("GET", _) if asks(b"tagging") => "GetObjectTagging",
        ("GET", _) => "GetObject",
        ("HEAD", 1) => "HeadBucket",
        ("HEAD", _) => "HeadObject",
        ("PUT", 1) if asks(b"policy") => "PutBucketPolicy",
        ("PUT", 1) => "CreateBucket",
        ("PUT", _) if asks(b"partNumber") => "UploadPart",
        ("PUT", _) if copies => "CopyObject",
        ("PUT", _) => "PutObject",
        ("DELETE", 1) => "DeleteBucket",
        ("DELETE", _) => "DeleteObject",
        ("POST", 1) if asks(b"delete") => "DeleteObjects",
        ("POST", _) if asks(b"uploads") => "CreateMultipartUpload",
        ("POST", _) if asks(b"uploadId") => "CompleteMultipartUpload",
        _ => "other",
    })
}

/// `X-Amz-Target: DynamoDB_20120810.GetItem`
fn target(call: &ApiCall) -> Option<SmolStr> {
    let (_, value) = call
        .raw
        .request_headers
        .iter()
        .find(|(name, _)| name.as_ref() == b"x-amz-target")?;
    let text = std::str::from_utf8(value).ok()?;
    word(text.rsplit('.').next()?).map(SmolStr::new)
}

/// `Action=DescribeInstances` in the query or in a form.
fn query_action(call: &ApiCall) -> Option<SmolStr> {
    [&call.raw.query, &call.raw.request_body]
        .into_iter()
        .find_map(|text| {
            let part = text
                .split(|byte| *byte == b'&')
                .find_map(|part| part.strip_prefix(b"Action="))?;
            word(std::str::from_utf8(part).ok()?).map(SmolStr::new)
        })
}

/// The shape of a service's or an action's name.
fn word(text: &str) -> Option<&str> {
    (text.len() <= ACTION_BYTES_MAX
        && text.starts_with(|one: char| one.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !matches!(
            Shape::value(text),
            Shape::Hex | Shape::Uuid | Shape::Code | Shape::Token
        ))
    .then_some(text)
}
