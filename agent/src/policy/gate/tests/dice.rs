//! Policies and requests as they fall: every dimension of a rule, and heads as honest and hostile clients write them.
//!
//! The same seed makes the same ones. It must not know what becomes of them.

/// Numbers by chance, the same for the same seed (SplitMix64).
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        (self.roll() % bound as u64) as usize
    }

    pub(super) fn one_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }

    pub(super) fn of<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.below(list.len())]
    }

    pub(super) fn some(&mut self, list: &[&str], most: usize) -> String {
        let len = 1 + self.below(most);
        let values: Vec<String> = (0..len).map(|_| format!("'{}'", self.of(list))).collect();
        format!("[{}]", values.join(", "))
    }
}

const METHODS: [&str; 6] = ["GET", "POST", "DELETE", "PATCH", "FROB", "OPTIONS"];
const HOSTS: [&str; 6] = [
    "api.example.org",
    "*.example.org",
    "example.org",
    "[::1]",
    "h",
    "*.a.h",
];
const NETS: [&str; 6] = [
    "10.0.0.0/8",
    "10.1.0.0/16",
    "192.0.2.0/24",
    "2001:db8::/32",
    "::/0",
    "192.0.2.1",
];
const AUTHS: [&str; 9] = [
    "none",
    "basic",
    "bearer",
    "digest",
    "negotiate",
    "sigv4",
    "api-key",
    "cookie",
    "other",
];
const SEGMENTS: [&str; 7] = ["a", "b", "admin", "longsegment", "exactly8", "$export", "x.y"];

fn pattern(dice: &mut Dice) -> String {
    let mut path = String::new();
    for _ in 0..dice.below(4) {
        path.push('/');
        path.push_str(if dice.one_in(3) {
            "{id}"
        } else {
            dice.of(&SEGMENTS)
        });
    }
    match dice.below(3) {
        0 => path.push_str("/**"),
        1 if !path.is_empty() => path.push('/'),
        _ if path.is_empty() => path.push('/'),
        _ => {}
    }
    path
}

pub(super) fn policy(dice: &mut Dice, name: usize) -> String {
    let mut text = format!(
        "apiVersion: apiward.io/v1\nkind: ApiPolicy\nmetadata: {{ name: p{name} }}\nspec:\n  mode: {}\n",
        if dice.one_in(6) { "observe" } else { "enforce" }
    );
    if dice.one_in(2) {
        text.push_str("  onAmbiguous: deny\n");
    }
    if dice.one_in(3) {
        text.push_str(&format!("  priority: {}\n", dice.below(3)));
    }
    if dice.one_in(5) {
        text.push_str("  workload: { exe: [/usr/bin/server, /usr/bin/other] }\n");
    }
    text.push_str("  rules:\n");
    for rule in 0..1 + dice.below(8) {
        let mut parts = Vec::new();
        if dice.one_in(3) {
            parts.push(format!("methods: {}", dice.some(&METHODS, 3)));
        }
        if !dice.one_in(4) {
            let paths: Vec<String> = (0..1 + dice.below(3))
                .map(|_| format!("'{}'", pattern(dice)))
                .collect();
            parts.push(format!("paths: [{}]", paths.join(", ")));
        }
        for (key, list) in [("hosts", &HOSTS), ("peers", &NETS)] {
            if dice.one_in(5) {
                let list = dice.some(list, 3);
                let not = dice.one_in(3);
                parts.push(if not {
                    format!("{key}: {{ not: {list} }}")
                } else {
                    format!("{key}: {list}")
                });
            }
        }
        let inbound_only = dice.one_in(14);
        if inbound_only {
            parts.push("direction: inbound, clients: [10.0.0.0/8]".to_owned());
        } else if dice.one_in(6) {
            parts.push(format!("direction: {}", dice.of(&["inbound", "outbound"])));
        }
        if dice.one_in(6) {
            parts.push(format!("workload: {{ uid: {} }}", dice.some(&["0", "1000"], 2)));
        }
        if dice.one_in(4) {
            parts.push(format!("auth: {}", dice.some(&AUTHS, 4)));
        }
        let action = dice.of(&["allow", "alert", "deny", "deny", "deny", "kill"]);
        text.push_str(&format!("  - {{ name: r{rule}, action: {action}"));
        if !parts.is_empty() {
            text.push_str(&format!(", match: {{ {} }}", parts.join(", ")));
        }
        if dice.one_in(14) {
            text.push_str(", when: call.request.query_parameters > 0");
        }
        if dice.one_in(3) {
            let by = if inbound_only {
                "client"
            } else {
                dice.of(&["peer", "workload"])
            };
            text.push_str(&format!(
                ", rate: {{ requests: {}, per: 1m, by: {by} }}",
                1 + dice.below(2)
            ));
        }
        text.push_str(" }\n");
    }
    text
}

/// A request, and why the agent may have to decide it.
pub(super) struct Asked {
    pub(super) text: String,
    /// Chance has put something in it that is ambiguous, or about which the gate says less than the agent.
    pub(super) odd: bool,
    pub(super) what: &'static str,
}

pub(super) fn request(dice: &mut Dice) -> Asked {
    let mut what = "plain";
    let mut odd = false;
    let method = match dice.below(12) {
        0 => "get",
        1 => "PUT",
        2 => "Delete",
        _ => dice.of(&METHODS),
    };
    let mut target = String::new();
    for _ in 0..dice.below(4) {
        target.push('/');
        target.push_str(match dice.below(8) {
            0 => "other",
            1 => "Admin",
            _ => dice.of(&SEGMENTS),
        });
    }
    if target.is_empty() || dice.one_in(5) {
        target.push('/');
    }
    if dice.one_in(4) {
        target.push_str(dice.of(&["?", "?a=b", "?x=/admin//..%2f&y", "?a?b;c"]));
    }
    if dice.one_in(6) {
        odd = true;
        what = "target";
        target = match dice.below(9) {
            0 => format!("/{target}"),
            1 => format!("/.{target}"),
            2 => format!("/b/..{target}"),
            3 => target.replacen('a', "%61", 1) + ";x",
            4 => format!("{target}#x"),
            5 => format!("http://api.example.org{target}"),
            6 => format!("{target}\\"),
            7 => format!("{target}\u{e9}"),
            _ => format!("{target}/."),
        };
    } else if dice.one_in(25) {
        what = "star";
        target = "*".into();
    }
    let mut version = "HTTP/1.1";
    if dice.one_in(12) {
        version = "HTTP/1.0";
    }
    let mut fields: Vec<String> = Vec::new();
    if !dice.one_in(8) {
        let host = dice.of(&[
            "api.example.org",
            "API.example.org:8080",
            "x.example.org",
            "example.org.",
            "[::1]:80",
            "h",
            "x.y.a.h",
            "a.h",
            "other",
            "_dmarc.example.org",
        ]);
        fields.push(format!("Host: {host}"));
    }
    if dice.one_in(2) {
        fields.push(
            dice.of(&[
                "Authorization: Basic dTpw",
                "authorization: bearer x",
                "Authorization: Digest x",
                "AUTHORIZATION: Negotiate x",
                "Authorization: AWS4-HMAC-SHA256 Credential=x",
                "Authorization: ApiKey x",
                "Authorization: Api-Key",
                "Authorization:",
                "Authorization: Zebulon y",
                "Cookie: a=b",
                "X-Api-Key: k",
                "x-goog-api-key: k",
                "x-vault-token: k",
                "apikey: k",
                "x-access-token: k",
                "X-Auth-Token: k",
                "ocp-apim-subscription-key: k",
                "X-Functions-Key: k",
                "api-key: k",
                "x-apikey: k",
            ])
            .to_owned(),
        );
    }
    for _ in 0..dice.below(4) {
        fields.push(
            dice.of(&[
                "Accept: */*",
                "User-Agent: curl/8.0 (x; y) \u{e9}",
                "X-Long-Header-Name-That-Goes-On: value\twith tab",
                "Content-Type: application/json",
                "Empty:",
                "Content-Encoding: gzip",
                "x_under_score: y",
                "Hostile: h",
                "Cookies: none",
                "Transfer: x",
            ])
            .to_owned(),
        );
    }
    let mut body = String::new();
    match dice.below(6) {
        0 => {
            body = "DELETE /admin HTTP/1.1\r\n\r\n"[..dice.below(26)].to_owned();
            fields.push(format!("Content-Length: {}", body.len()));
        }
        1 if version == "HTTP/1.1" => {
            fields.push("Transfer-Encoding: chunked".into());
            if !dice.one_in(3) {
                body.push_str("5;ext=1\r\nGET /\r\n1A\r\nDELETE /admin HTTP/1.1\r\n\r\n\r\n");
            }
            body.push_str("0\r\n");
            if dice.one_in(2) {
                body.push_str("Trailer: GET / HTTP/1.1\r\n");
            }
            body.push_str("\r\n");
        }
        _ => {}
    }
    let places = dice.below(fields.len() + 1);
    fields.rotate_left(places);
    let mut ends = vec!["\r\n"; fields.len()];
    let mut first_end = "\r\n";
    if dice.one_in(7) && !fields.is_empty() {
        odd = true;
        what = "fields";
        let at = dice.below(fields.len());
        match dice.below(10) {
            0 => fields.insert(at, "Host: api.example.org\r\nHost: h".into()),
            1 => fields.insert(at, "Content-Length: 0\r\nContent-Length: 0".into()),
            2 => fields.insert(at, "Content-Length: 0\r\nTransfer-Encoding: chunked".into()),
            3 => fields.push(" folded".into()),
            4 => fields[at] = fields[at].replacen(':', " :", 1),
            5 => ends[at] = "\n",
            6 => first_end = "\n",
            7 => fields[at].push('\u{1}'),
            8 => fields.insert(at, "no colon".into()),
            _ => fields[at].insert(2, '\r'),
        }
    }
    let mut text = String::new();
    if dice.one_in(9) {
        text.push_str(dice.of(&["\r\n", "\r\n\r\n"]));
    }
    text.push_str(&format!("{method} {target} {version}{first_end}"));
    for (at, field) in fields.iter().enumerate() {
        text.push_str(field);
        text.push_str(ends.get(at).unwrap_or(&"\r\n"));
    }
    text.push_str("\r\n");
    text.push_str(&body);
    Asked { text, odd, what }
}
