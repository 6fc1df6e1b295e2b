//! `docs/configuration.md`, rendered from [`KEYS`](super::file::KEYS), so that it cannot drift from the code.

use std::fmt::Write;

use super::file::KEYS;

/// The page.
pub fn render() -> String {
    let mut page = String::from(HEAD);
    for key in KEYS {
        let default = match key.default {
            "" => String::new(),
            default => format!(" · default `{default}`"),
        };
        // Writing into a string cannot fail.
        let _ = write!(
            page,
            "\n### `{}`\n\n{}{default}\n\n{}\n",
            key.path, key.kind, key.about
        );
    }
    page
}

const HEAD: &str = "\
# Configuration

<!-- Rendered from agent/src/config/file.rs; a test fails where they differ. \
Render it again with `UPDATE_DOCS=1 cargo test -p apiward config::`. -->

The agent reads one YAML file: `--config FILE`, by default `/etc/apiward/agent.yaml`. Without a file at the default
place the defaults below hold; any other missing file is an error. Flags win over the file. Unknown keys and bad
values are errors, all told at once, as `file:line:column: what — what to write instead [id]`;
[errors.md](errors.md) has a section for every id.

```yaml
mode: observe
policies: [/etc/apiward/policies/*.yaml]
export:
  - jsonl: { path: /var/log/apiward/events.jsonl }
  - collector: { endpoint: \"https://collector.example:7443\", tls: { ca: /etc/apiward/ca.pem } }
trusted_proxies: [10.0.0.0/24]
capture:
  scope: { cgroup: [/sys/fs/cgroup/ehr.slice] }
  body_bytes_max: 64KiB
```

Sizes are written `65536`, `64KiB`, `8MiB`, `1GiB`; durations `500ms`, `30s`, `5m`, `1h`, `2d`. A single value is
taken as a list of one.

## Keys
";
