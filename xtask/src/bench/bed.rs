//! The test bed: nginx and wrk in a cgroup of their own, the agent and its collector beside it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::{Beside, Traffic};
use crate::build::Built;
use crate::cgroup::{self, Cgroup};
use crate::children::{self, GRACE, Interrupt, Process, Scratch, Start};
use crate::sh;

/// Before our process id, in the cgroup's name.
const CGROUP_PREFIX: &str = "apiward-bench-";
const READY_LIMIT: Duration = Duration::from_secs(30);
/// Connections at saturation.
const CONNECTIONS: u32 = 8;
/// Connections at a given rate: enough that the delay between two requests of one is some milliseconds.
const PACED_CONNECTIONS: u32 = 64;
/// Bytes that go through the pipe one by one.
const PIPE_BYTES: u32 = 300_000;

/// How hard wrk tries.
#[derive(Clone, Copy, Debug)]
pub enum Load {
    Saturated,
    PerSecond(f64),
}

/// One measurement.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    pub requests: u64,
    pub requests_per_s: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    /// CPU time of nginx and of the agent per request, µs.
    pub nginx_us: f64,
    pub agent_us: f64,
    /// Resident memory of the agent at the end, bytes.
    pub agent_rss: u64,
    /// Calls that the agent told of, and what its loss counters gained.
    pub calls: u64,
    pub losses: u64,
    /// p50, p99 (µs), and the share of the wanted rate that was reached.
    pub half_load: Option<(f64, f64, f64)>,
}

/// Fields are dropped in this order: processes first.
pub struct Bed {
    agent: Option<Process>,
    collector: Option<Process>,
    nginx: Option<Process>,
    servers: Cgroup,
    clients: Cgroup,
    agents: Cgroup,
    scope: Cgroup,
    whole: Cgroup,
    built: Built,
    scratch: Scratch,
    ports: [u16; 2],
    starts: u32,
}

impl Bed {
    /// Makes the cgroups; starts nothing yet.
    pub fn new(built: &Built) -> Result<Bed> {
        let root = cgroup::mount_point()?;
        cgroup::remove_stale(&root, CGROUP_PREFIX);
        let whole = Cgroup::new(&root, &format!("{CGROUP_PREFIX}{}", std::process::id()))?;
        // CPU time is counted per cgroup only where the controller is there, or in the base accounting, which always is.
        let scope = Cgroup::new(&whole.path, "scope")?;
        Ok(Bed {
            agent: None,
            collector: None,
            nginx: None,
            servers: Cgroup::new(&scope.path, "servers")?,
            clients: Cgroup::new(&scope.path, "clients")?,
            agents: Cgroup::new(&whole.path, "agents")?,
            scope,
            whole,
            built: built.clone(),
            scratch: Scratch::new("bench")?,
            ports: [children::free_port()?, children::free_port()?],
            starts: 0,
        })
    }

    /// Starts nginx, in clear and with TLS.
    pub fn serve(&mut self, interrupt: &Interrupt) -> Result<()> {
        let folder = self.scratch.path.clone();
        let (key, certificate) = (folder.join("key.pem"), folder.join("cert.pem"));
        let mut openssl = Command::new(program("openssl")?);
        openssl
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
            ])
            .args(["-nodes", "-days", "2", "-subj", "/CN=localhost", "-keyout"])
            .arg(&key)
            .arg("-out")
            .arg(&certificate);
        sh::read(&mut openssl)?;
        let conf = folder.join("nginx.conf");
        let [clear, tls] = self.ports;
        let at = folder.display();
        std::fs::write(
            &conf,
            format!(
                "daemon off; worker_processes 1; user root; pid {at}/nginx.pid; error_log {at}/nginx.log warn;\n\
                 events {{ worker_connections 8192; }}\n\
                 http {{ access_log off; keepalive_requests 1000000000;\n\
                 client_body_temp_path {at}/body; proxy_temp_path {at}/proxy; fastcgi_temp_path {at}/fastcgi;\n\
                 uwsgi_temp_path {at}/uwsgi; scgi_temp_path {at}/scgi;\n\
                 server {{ listen 127.0.0.1:{clear}; listen 127.0.0.1:{tls} ssl;\n\
                 ssl_certificate {}; ssl_certificate_key {};\n\
                 location / {{ default_type application/json; return 200 '{}'; }} }} }}\n",
                certificate.display(),
                key.display(),
                "x".repeat(100),
            ),
        )?;
        let log = folder.join("nginx.out");
        let how = Start {
            name: "nginx",
            log: Some(&log),
            cgroup: Some(&self.servers.path),
            own_group: true,
        };
        let mut nginx = Process::start(&how, &program("nginx")?, &["-c", text(&conf)?])?;
        nginx.wait_until(READY_LIMIT, interrupt, || children::accepts(clear))?;
        self.nginx = Some(nginx);
        Ok(())
    }

    /// Ends what ran beside the load, and starts what shall. An agent that does not end well is an error.
    pub fn beside(&mut self, beside: Beside, interrupt: &Interrupt) -> Result<()> {
        for process in [self.agent.take(), self.collector.take()].iter_mut().flatten() {
            let status = process.end(GRACE)?;
            if !status.success() {
                bail!(
                    "{} did not end well ({status}){}",
                    process.name,
                    process.last_words()
                );
            }
        }
        if beside == Beside::Nothing {
            return Ok(());
        }
        self.starts += 1;
        let folder = self.scratch.path.clone();
        let port = children::free_port()?;
        let listen = format!("127.0.0.1:{port}");
        let store = folder.join(format!("store-{}", self.starts));
        let log = folder.join("collector.log");
        let how = Start {
            name: "apiward-collector",
            log: Some(&log),
            cgroup: None,
            own_group: true,
        };
        let mut collector = Process::start(
            &how,
            &self.built.collector,
            &["run", "--listen", &listen, "--data", text(&store)?],
        )?;
        collector.wait_until(READY_LIMIT, interrupt, || children::accepts(port))?;
        self.collector = Some(collector);
        let config = folder.join("agent.yaml");
        let probes = if beside == Beside::Functions {
            "functions"
        } else {
            "inner"
        };
        let content = json!({
            "mode": "observe",
            "export": [{ "collector": { "endpoint": format!("http://{listen}") } }],
            "spool": { "dir": folder.join(format!("spool-{}", self.starts)) },
            "control": folder.join("control.sock"),
            "metrics": "off",
            "capture": { "scope": { "cgroup": [self.scope.path] }, "tls_probes": probes },
        });
        std::fs::write(&config, content.to_string())?;
        let log = folder.join("agent.log");
        let how = Start {
            name: "apiward",
            log: Some(&log),
            cgroup: Some(&self.agents.path),
            own_group: true,
        };
        let mut agent = Process::start(&how, &self.built.agent, &["run", "--config", text(&config)?])?;
        agent.wait_until(READY_LIMIT, interrupt, || self.status().is_ok())?;
        self.agent = Some(agent);
        // Probes on what runs already come right after the start; a first load finds them, and is not measured.
        for traffic in [Traffic::Clear, Traffic::Tls] {
            self.load(traffic, 1, Load::Saturated)?;
        }
        Ok(())
    }

    /// Loads nginx for some seconds.
    pub fn load(&self, traffic: Traffic, seconds: u32, load: Load) -> Result<Sample> {
        let url = match traffic {
            Traffic::Clear => format!("http://127.0.0.1:{}/fhir/Patient/1", self.ports[0]),
            Traffic::Tls => format!("https://127.0.0.1:{}/fhir/Patient/1", self.ports[1]),
        };
        let script = self.scratch.path.join("load.lua");
        let delay = match load {
            Load::Saturated => String::new(),
            // Around the mean, so that the connections do not march in step.
            Load::PerSecond(rate) => format!(
                "local mean = {}\nfunction delay() return math.floor(math.random() * 2 * mean + 0.5) end\n",
                f64::from(PACED_CONNECTIONS) * 1000.0 / rate
            ),
        };
        let summary = "function done(s, l, r) io.write(string.format(\"RESULT %d %d %f %f %d\\n\", s.requests, \
                       s.duration, l:percentile(50), l:percentile(99), s.errors.connect + s.errors.read + \
                       s.errors.write + s.errors.status + s.errors.timeout)) end\n";
        std::fs::write(&script, format!("{delay}{summary}"))?;
        let connections = match load {
            Load::Saturated => CONNECTIONS,
            Load::PerSecond(_) => PACED_CONNECTIONS,
        };
        let before = self.counters()?;
        let log = self.scratch.path.join("wrk.log");
        let how = Start {
            name: "wrk",
            log: Some(&log),
            cgroup: Some(&self.clients.path),
            own_group: true,
        };
        let (connections, duration) = (connections.to_string(), format!("{seconds}s"));
        let args = [
            "-t1",
            "-c",
            &connections,
            "-d",
            &duration,
            "-s",
            text(&script)?,
            &url,
        ];
        let mut wrk = Process::start(&how, &program("wrk")?, &args)?;
        let deadline = Instant::now() + Duration::from_secs(u64::from(seconds)) + READY_LIMIT;
        while wrk.ended().is_none() {
            if Instant::now() > deadline {
                bail!("wrk does not end{}", wrk.last_words());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let output = std::fs::read_to_string(&log)?;
        let result = output
            .lines()
            .find_map(|line| line.strip_prefix("RESULT "))
            .with_context(|| format!("wrk gave no result{}", wrk.last_words()))?;
        let numbers: Vec<f64> = result.split(' ').filter_map(|word| word.parse().ok()).collect();
        let &[requests, duration_us, p50_us, p99_us, errors] = numbers.as_slice() else {
            bail!("wrk's result has another form: {result}");
        };
        if requests == 0.0 || errors > 0.0 {
            bail!(
                "{requests} requests, {errors} errors: the load failed{}",
                wrk.last_words()
            );
        }
        let after = self.counters()?;
        Ok(Sample {
            requests: requests as u64,
            requests_per_s: requests * 1e6 / duration_us,
            p50_us,
            p99_us,
            nginx_us: (after.nginx_us - before.nginx_us) as f64 / requests,
            agent_us: (after.agent_us - before.agent_us) as f64 / requests,
            agent_rss: after.agent_rss,
            calls: after.calls - before.calls,
            losses: after.losses - before.losses,
            half_load: None,
        })
    }

    /// Seconds that bytes need to go through a pipe one by one.
    pub fn pipe(&self) -> Result<f64> {
        let dd = program("dd")?;
        let script = format!(
            "echo 0 > {}/cgroup.procs && {dd} if=/dev/zero bs=1 count={PIPE_BYTES} 2>/dev/null | {dd} of=/dev/null bs=1 2>/dev/null",
            self.clients.path.display(),
            dd = dd.display()
        );
        let started = Instant::now();
        sh::read(Command::new("/bin/sh").args(["-c", &script]))?;
        Ok(started.elapsed().as_secs_f64())
    }

    fn status(&self) -> Result<serde_json::Value> {
        let mut command = Command::new(&self.built.agent);
        command
            .args(["status", "--output", "json", "--config"])
            .arg(self.scratch.path.join("agent.yaml"));
        Ok(serde_json::from_str(&sh::read(&mut command)?)?)
    }

    fn counters(&self) -> Result<Counters> {
        let mut counters = Counters {
            nginx_us: cpu_us(&self.servers.path)?,
            agent_us: cpu_us(&self.agents.path)?,
            ..Counters::default()
        };
        if self.agent.is_some() {
            let status = self.status()?;
            counters.calls = status["calls"].as_u64().unwrap_or(0);
            counters.losses = status["losses"]
                .as_object()
                .into_iter()
                .flatten()
                .filter_map(|(_, count)| count.as_u64())
                .sum();
            counters.agent_rss = status["rss_bytes"].as_u64().unwrap_or(0);
        }
        Ok(counters)
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        // Processes first; cgroups go child before parent, in the order of the fields.
        self.agent = None;
        self.collector = None;
        self.nginx = None;
        let _ = (&self.whole, &self.scope);
    }
}

#[derive(Default)]
struct Counters {
    nginx_us: u64,
    agent_us: u64,
    agent_rss: u64,
    calls: u64,
    losses: u64,
}

/// CPU time that a cgroup has used, µs.
fn cpu_us(cgroup: &Path) -> Result<u64> {
    let text = std::fs::read_to_string(cgroup.join("cpu.stat"))?;
    text.lines()
        .find_map(|line| line.strip_prefix("usage_usec "))
        .and_then(|number| number.trim().parse().ok())
        .with_context(|| format!("{} has no usage_usec", cgroup.join("cpu.stat").display()))
}

fn program(name: &str) -> Result<PathBuf> {
    sh::which(name).with_context(|| format!("{name} is missing: `cargo xtask setup --bench`"))
}

fn text(path: &Path) -> Result<&str> {
    path.to_str()
        .with_context(|| format!("{} is not UTF-8", path.display()))
}
