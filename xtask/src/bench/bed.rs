//! The test bed: nginx and wrk in a cgroup of their own, the agent and its collector beside it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Resource, getrlimit, setrlimit};
use serde_json::json;

use super::calls::Calls;
use super::counters::{self, Counters, Memory, cpu_us};
use super::{Beside, Traffic, gate};
use crate::build::Built;
use crate::cgroup::{self, Cgroup};
use crate::children::{self, GRACE, Interrupt, Process, Scratch, Start};
use crate::sh;

/// Before our process id, in the cgroup's name.
const CGROUP_PREFIX: &str = "apiward-bench-";
pub const READY_LIMIT: Duration = Duration::from_secs(30);
/// Connections at saturation.
const CONNECTIONS: u32 = 8;
/// Connections at a given rate: enough that the delay between two requests of one is some milliseconds.
const PACED_CONNECTIONS: u32 = 64;
/// More than any crowd has.
const WORKER_CONNECTIONS: u32 = 32_768;
/// Milliseconds that each connection of a crowd rests between two requests, on average.
const CROWD_REST_MS: u32 = 2_000;
/// Agent and collector have settled when each uses less than a tenth of so long.
const SETTLE: Duration = Duration::from_millis(150);
const SETTLE_LOOKS_MAX: u32 = 100;
/// How long a crowd may take to connect: a handshake each, while the agent looks.
const CROWD_LIMIT: Duration = Duration::from_secs(60);
/// Bytes that go through the pipe one by one.
const PIPE_BYTES: u32 = 300_000;

/// How hard wrk tries.
#[derive(Clone, Copy, Debug)]
pub enum Load {
    Saturated,
    PerSecond(f64),
}

/// One measurement under load.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    pub requests: u64,
    pub requests_per_s: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    /// CPU time of nginx and of the agent per request, µs.
    pub nginx_us: f64,
    pub agent_us: f64,
    /// And of the collector.
    pub collector_us: f64,
    /// Calls that the agent told of, and what its loss counters gained.
    pub calls: u64,
    pub losses: BTreeMap<String, u64>,
    /// The same at half of the load that nginx reached alone.
    pub half: Option<Half>,
}

/// At half load.
#[derive(Clone, Copy, Debug, Default)]
pub struct Half {
    pub p50_us: f64,
    pub p99_us: f64,
    /// The share of the wanted rate that was reached.
    pub reached: f64,
    /// The agent's CPU time per call, µs.
    pub agent_call_us: f64,
}

impl Sample {
    /// The agent's CPU time per call that it told of, µs.
    pub fn agent_call_us(&self) -> f64 {
        self.agent_us * self.requests as f64 / self.calls.max(1) as f64
    }

    /// The collector's, µs.
    pub fn collector_call_us(&self) -> f64 {
        self.collector_us * self.requests as f64 / self.calls.max(1) as f64
    }
}

/// Bytes through a pipe, one by one: per byte, ns.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pipe {
    pub elapsed_ns: f64,
    /// Of both processes.
    pub cpu_ns: f64,
}

/// Many open connections, and the agent's memory meanwhile.
#[derive(Clone, Debug, Default)]
pub struct Crowd {
    /// Open at the end: in clear, over TLS. Both ends of each are in scope, so that the agent follows twice as many.
    pub connections: [usize; 2],
    /// The greatest of all looks.
    pub memory: Memory,
    pub calls: u64,
    pub losses: BTreeMap<String, u64>,
}

/// Fields are dropped in this order: processes first.
pub struct Bed {
    agent: Option<Process>,
    collector: Option<Process>,
    nginx: Option<Process>,
    servers: Cgroup,
    clients: Cgroup,
    agents: Cgroup,
    collectors: Cgroup,
    scope: Cgroup,
    whole: Cgroup,
    built: Built,
    scratch: Scratch,
    /// nginx's, in clear and over TLS.
    ports: [u16; 2],
    starts: u32,
}

impl Bed {
    /// Makes the cgroups; starts nothing yet.
    pub fn new(built: &Built) -> Result<Bed> {
        // As many open files as may be had without asking for more: nginx and wrk inherit it.
        let mut files = getrlimit(Resource::Nofile);
        files.current = files.maximum;
        setrlimit(Resource::Nofile, files).context("the limit of open files cannot be raised")?;
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
            collectors: Cgroup::new(&whole.path, "collectors")?,
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
                 events {{ worker_connections {WORKER_CONNECTIONS}; }}\n\
                 http {{ access_log off; keepalive_requests 1000000000;\n\
                 client_body_temp_path {at}/body; proxy_temp_path {at}/proxy; fastcgi_temp_path {at}/fastcgi;\n\
                 uwsgi_temp_path {at}/uwsgi; scgi_temp_path {at}/scgi;\n\
                 server {{ listen 127.0.0.1:{clear} backlog=8192; listen 127.0.0.1:{tls} ssl backlog=8192;\n\
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
        // Some tens of megabytes a second: no run shall fill the disk.
        for left in [self.events(), self.store(), self.spool()] {
            let _ = match left.is_dir() {
                true => std::fs::remove_dir_all(left),
                false => std::fs::remove_file(left),
            };
        }
        if beside == Beside::Nothing {
            return Ok(());
        }
        self.starts += 1;
        let folder = self.scratch.path.clone();
        let port = children::free_port()?;
        let listen = format!("127.0.0.1:{port}");
        let log = folder.join("collector.log");
        let how = Start {
            name: "apiward-collector",
            log: Some(&log),
            cgroup: Some(&self.collectors.path),
            own_group: true,
        };
        let mut collector = Process::start(
            &how,
            &self.built.collector,
            &["run", "--listen", &listen, "--data", text(&self.store())?],
        )?;
        collector.wait_until(READY_LIMIT, interrupt, || children::accepts(port))?;
        self.collector = Some(collector);
        let config = folder.join("agent.yaml");
        let probes = if beside == Beside::Functions {
            "functions"
        } else {
            "inner"
        };
        let (mode, policies) = match beside {
            Beside::Enforcing => ("enforce", vec![gate::write_policy(&folder)?]),
            _ => ("observe", Vec::new()),
        };
        let content = json!({
            "mode": mode,
            "policies": policies,
            "export": [
                { "jsonl": { "path": self.events() } },
                { "collector": { "endpoint": format!("http://{listen}") } },
            ],
            "spool": { "dir": self.spool() },
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
            self.load(&self.calls(traffic), 1, Load::Saturated)?;
        }
        Ok(())
    }

    /// The call that everything is measured with, but for what concerns the gate.
    pub fn calls(&self, traffic: Traffic) -> Calls {
        let [clear, tls] = self.ports;
        Calls::plain(match traffic {
            Traffic::Clear => format!("http://127.0.0.1:{clear}/fhir/Patient/1"),
            Traffic::Tls => format!("https://127.0.0.1:{tls}/fhir/Patient/1"),
        })
    }

    /// nginx's port in clear.
    pub fn port(&self) -> u16 {
        self.ports[0]
    }

    /// Where files of the run are, and the cgroup of what stands between clients and nginx.
    pub fn place(&self) -> (&Path, &Path) {
        (&self.scratch.path, &self.clients.path)
    }

    /// Loads nginx for some seconds.
    pub fn load(&self, calls: &Calls, seconds: u32, load: Load) -> Result<Sample> {
        let (connections, rest_ms) = match load {
            Load::Saturated => (CONNECTIONS, 0.0),
            Load::PerSecond(rate) => (PACED_CONNECTIONS, f64::from(PACED_CONNECTIONS) * 1000.0 / rate),
        };
        let before = self.counters()?;
        let mut wrk = self.wrk("wrk", calls, connections, seconds, rest_ms)?;
        let deadline = Instant::now() + Duration::from_secs(u64::from(seconds)) + READY_LIMIT;
        while wrk.ended().is_none() {
            if Instant::now() > deadline {
                bail!("wrk does not end{}", wrk.last_words());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let output = std::fs::read_to_string(self.scratch.path.join("wrk.log"))?;
        let result = output
            .lines()
            .find_map(|line| line.strip_prefix("RESULT "))
            .with_context(|| format!("wrk gave no result{}", wrk.last_words()))?;
        let numbers: Vec<f64> = result.split(' ').filter_map(|word| word.parse().ok()).collect();
        let &[requests, duration_us, p50_us, p99_us, errors, refused] = numbers.as_slice() else {
            bail!("wrk's result has another form: {result}");
        };
        if requests == 0.0 || errors > 0.0 || (refused > 0.0) != calls.some_are_refused {
            bail!(
                "{requests} requests, {errors} errors, {refused} refused: the load failed{}",
                wrk.last_words()
            );
        }
        let after = self.settled()?;
        Ok(Sample {
            requests: requests as u64,
            requests_per_s: requests * 1e6 / duration_us,
            p50_us,
            p99_us,
            nginx_us: (after.nginx_us - before.nginx_us) as f64 / requests,
            agent_us: (after.agent_us - before.agent_us) as f64 / requests,
            collector_us: (after.collector_us - before.collector_us) as f64 / requests,
            calls: after.calls - before.calls,
            losses: after.losses_since(&before),
            half: None,
        })
    }

    /// Starts wrk on so many connections, each of which rests between two requests.
    fn wrk(
        &self,
        name: &str,
        calls: &Calls,
        connections: u32,
        seconds: u32,
        rest_ms: f64,
    ) -> Result<Process> {
        let script = self.scratch.path.join(format!("{name}.lua"));
        let delay = match rest_ms {
            0.0 => String::new(),
            // Around the mean, so that the connections do not march in step.
            mean => format!("function delay() return math.floor(math.random() * 2 * {mean} + 0.5) end\n"),
        };
        let summary = "function done(s, l, r) io.write(string.format(\"RESULT %d %d %f %f %d %d\\n\", s.requests, \
                       s.duration, l:percentile(50), l:percentile(99), s.errors.connect + s.errors.read + \
                       s.errors.write + s.errors.timeout, s.errors.status)) end\n";
        std::fs::write(&script, format!("{delay}{}{summary}", calls.script))?;
        let log = self.scratch.path.join(format!("{name}.log"));
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
            "--timeout",
            "30s",
            "-s",
            text(&script)?,
            &calls.url,
        ];
        Process::start(&how, &program("wrk")?, &args)
    }

    /// Holds `connections` open, half of them over TLS, all of them in use now and then, while nginx is under full load
    /// on others, in clear for `seconds` and over TLS for as long; looks at the agent's memory every second.
    pub fn crowd(&self, connections: u32, seconds: u32, interrupt: &Interrupt) -> Result<Crowd> {
        let half = connections.div_ceil(2);
        let life = CROWD_LIMIT.as_secs() as u32 + 3 * seconds;
        let before = self.counters()?;
        let rest = f64::from(CROWD_REST_MS);
        let mut crowds = [
            self.wrk("crowd-clear", &self.calls(Traffic::Clear), half, life, rest)?,
            self.wrk("crowd-tls", &self.calls(Traffic::Tls), half, life, rest)?,
        ];
        let [clear, tls] = self.ports;
        let open = || [clear, tls].map(|port| counters::connections(port).unwrap_or(0));
        let [first, second] = &mut crowds;
        first.wait_until(CROWD_LIMIT, interrupt, || {
            open().iter().all(|count| *count >= half as usize)
        })?;
        // Connected is not yet spoken on: after two rests nearly all have been.
        let mut crowd = Crowd::default();
        let settled = Instant::now() + Duration::from_millis(2 * u64::from(CROWD_REST_MS));
        second.wait_until(CROWD_LIMIT, interrupt, || Instant::now() >= settled)?;
        for traffic in [Traffic::Clear, Traffic::Tls] {
            let mut load = self.wrk("wrk", &self.calls(traffic), CONNECTIONS, seconds, 0.0)?;
            let deadline = Instant::now() + Duration::from_secs(u64::from(seconds)) + READY_LIMIT;
            while load.ended().is_none() {
                if interrupt.is_set() || Instant::now() > deadline {
                    bail!("wrk did not end by itself{}", load.last_words());
                }
                self.look(&mut crowd.memory);
                std::thread::sleep(Duration::from_millis(200));
            }
        }
        crowd.connections = open();
        if crowd.connections.iter().sum::<usize>() < connections as usize {
            bail!(
                "connections were lost under load: {:?} are left",
                crowd.connections
            );
        }
        self.look(&mut crowd.memory);
        // Nothing comes to rest beside what is in use.
        drop(crowds);
        let after = self.settled()?;
        crowd.calls = after.calls - before.calls;
        crowd.losses = after.losses_since(&before);
        Ok(crowd)
    }

    fn look(&self, greatest: &mut Memory) {
        let Some(found) = self
            .agent
            .as_ref()
            .and_then(|agent| counters::memory(agent.id()).ok())
        else {
            return;
        };
        greatest.rss = greatest.rss.max(found.rss);
        greatest.peak = greatest.peak.max(found.peak);
        greatest.maps = greatest.maps.max(found.maps);
    }

    /// Bytes that go through a pipe one by one.
    pub fn pipe(&self) -> Result<Pipe> {
        let dd = program("dd")?;
        let script = format!(
            "echo 0 > {}/cgroup.procs && {dd} if=/dev/zero bs=1 count={PIPE_BYTES} 2>/dev/null | {dd} of=/dev/null bs=1 2>/dev/null",
            self.clients.path.display(),
            dd = dd.display()
        );
        let before = cpu_us(&self.clients.path)?;
        let started = Instant::now();
        sh::read(Command::new("/bin/sh").args(["-c", &script]))?;
        let elapsed = started.elapsed();
        let cpu = cpu_us(&self.clients.path)? - before;
        Ok(Pipe {
            elapsed_ns: elapsed.as_nanos() as f64 / f64::from(PIPE_BYTES),
            cpu_ns: cpu as f64 * 1e3 / f64::from(PIPE_BYTES),
        })
    }

    /// Where the agent probes the TLS libraries that it met.
    pub fn sites(&self) -> Result<Vec<String>> {
        let status = self.status()?;
        let libraries = status["libraries"].as_array().into_iter().flatten();
        Ok(libraries
            .map(|library| {
                let sites = library["sites"].as_array().into_iter().flatten();
                let sites: Vec<&str> = sites.filter_map(|site| site.as_str()).collect();
                let name = |key: &str| library[key].as_str().unwrap_or_default().to_owned();
                format!("{} {}: {}", name("path"), name("version"), sites.join("; "))
            })
            .collect())
    }

    fn events(&self) -> PathBuf {
        self.scratch.path.join(format!("events-{}.jsonl", self.starts))
    }

    fn store(&self) -> PathBuf {
        self.scratch.path.join(format!("store-{}", self.starts))
    }

    fn spool(&self) -> PathBuf {
        self.scratch.path.join(format!("spool-{}", self.starts))
    }

    fn status(&self) -> Result<serde_json::Value> {
        let mut command = Command::new(&self.built.agent);
        command
            .args(["status", "--output", "json", "--config"])
            .arg(self.scratch.path.join("agent.yaml"));
        Ok(serde_json::from_str(&sh::read(&mut command)?)?)
    }

    /// Counters after a load: what the agent still has to do for it is its cost too, and what the collector has to do would
    /// else be measured as part of the next load.
    fn settled(&self) -> Result<Counters> {
        let mut last = self.counters()?;
        if self.agent.is_none() {
            return Ok(last);
        }
        for _ in 0..SETTLE_LOOKS_MAX {
            std::thread::sleep(SETTLE);
            let now = self.counters()?;
            let rests = |now: u64, last: u64| now - last < SETTLE.as_micros() as u64 / 10;
            let done = now.calls == last.calls
                && rests(now.agent_us, last.agent_us)
                && rests(now.collector_us, last.collector_us);
            last = now;
            if done {
                return Ok(last);
            }
        }
        bail!("agent and collector do not come to rest; is this machine busy with something else?")
    }

    fn counters(&self) -> Result<Counters> {
        let mut counters = Counters {
            nginx_us: cpu_us(&self.servers.path)?,
            agent_us: cpu_us(&self.agents.path)?,
            collector_us: cpu_us(&self.collectors.path)?,
            ..Counters::default()
        };
        if self.agent.is_some() {
            counters.add_status(&self.status()?);
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

pub fn program(name: &str) -> Result<PathBuf> {
    sh::which(name).with_context(|| format!("{name} is missing: `cargo xtask setup --bench`"))
}

pub fn text(path: &Path) -> Result<&str> {
    path.to_str()
        .with_context(|| format!("{} is not UTF-8", path.display()))
}
