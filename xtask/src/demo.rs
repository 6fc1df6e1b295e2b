//! The demo's small hospital on loopback: a front door in clear and with TLS, an application behind it, clients who
//! belong there, an outsider who does not, and a batch job that tells a vendor too much.
//!
//! The hospital runs in a cgroup of its own, which is the agent's scope; the outsider and the vendor run beside it.
//! It must not know the agent.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::cgroup::{self, Cgroup};
use crate::children::{self, Interrupt, Process, Start};
use crate::sh;

/// Before our process id, in the cgroup's name.
const CGROUP_PREFIX: &str = "apiward-demo-";
/// How long a server may take until it accepts connections.
const READY_LIMIT: Duration = Duration::from_secs(10);
/// How long a demo process may take to end before it is killed; it has nothing to save.
const END_LIMIT: Duration = Duration::from_secs(2);

/// The hospital. Fields are dropped in this order: processes first.
#[derive(Debug)]
pub struct Demo {
    processes: Vec<Process>,
    hospital: Cgroup,
    outside: Cgroup,
    whole: Cgroup,
    folder: PathBuf,
}

impl Demo {
    /// Makes the cgroups; starts nothing yet. Files go into `scratch`.
    pub fn new(scratch: &Path) -> Result<Demo> {
        let folder = scratch.join("demo");
        std::fs::create_dir(&folder)?;
        let root = cgroup::mount_point()?;
        cgroup::remove_stale(&root, CGROUP_PREFIX);
        let whole = Cgroup::new(&root, &format!("{CGROUP_PREFIX}{}", std::process::id()))?;
        let hospital = Cgroup::new(&whole.path, "hospital")?;
        let outside = Cgroup::new(&whole.path, "outside")?;
        Ok(Demo {
            processes: Vec::new(),
            hospital,
            outside,
            whole,
            folder,
        })
    }

    /// The cgroup2 directory that the agent shall see.
    pub fn scope(&self) -> &Path {
        &self.hospital.path
    }

    /// The demo's policy file.
    pub fn policy(&self) -> PathBuf {
        asset("policy.yaml")
    }

    /// The names that its hosts go by.
    pub fn names(&self) -> [&'static str; 1] {
        ["ehr.hospital.example"]
    }

    /// Who is who, for somebody who is about to see their calls.
    pub fn story(&self) -> &'static str {
        "    The hospital: nginx, in clear and with TLS, before an application (python3). A ward's screen and a laboratory\n    \
         (python3) and a nurse (curl) use it as they should. An outsider tries one patient after the other without\n    \
         credentials, and a nightly batch posts records to a vendor. What is forbidden: xtask/assets/demo/policy.yaml"
    }

    /// Starts everything, servers first.
    pub fn open(&mut self, interrupt: &Interrupt) -> Result<()> {
        let [app, vendor, clear, tls] = [
            children::free_port()?,
            children::free_port()?,
            children::free_port()?,
            children::free_port()?,
        ];
        let certificate = self.make_certificate()?;
        let conf = self.write_nginx_conf(app, clear, tls)?;
        let python = program("python3")?;
        let nginx = program("nginx")?;
        let shell = program("sh")?;
        let [app_py, client_py, nurse_sh] =
            ["app.py", "client.py", "nurse.sh"].map(|name| as_text(asset(name)));
        let [app, vendor, clear, tls] = [app, vendor, clear, tls].map(|port| (port, port.to_string()));

        self.serve(
            "application",
            true,
            &python,
            &[&app_py, "--port", &app.1],
            app.0,
            interrupt,
        )?;
        self.serve(
            "vendor",
            false,
            &python,
            &[&app_py, "--vendor", "--port", &vendor.1],
            vendor.0,
            interrupt,
        )?;
        self.serve("nginx", true, &nginx, &["-c", &conf], clear.0, interrupt)?;
        self.start(
            "portal",
            true,
            &python,
            &[&client_py, "portal", "--port", &clear.1],
        )?;
        self.start(
            "lab",
            true,
            &python,
            &[&client_py, "lab", "--port", &tls.1, "--ca", &certificate],
        )?;
        self.start("nurse", true, &shell, &[&nurse_sh, &tls.1, &certificate])?;
        self.start(
            "batch",
            true,
            &python,
            &[&client_py, "batch", "--port", &clear.1, "--vendor", &vendor.1],
        )?;
        self.start(
            "outsider",
            false,
            &python,
            &[&client_py, "outsider", "--port", &clear.1],
        )
    }

    /// Ends the clients and the servers; the cgroups stay, so that the agent can let go of them first.
    pub fn close(&mut self) -> Result<()> {
        // Clients were started last and end first, so that no call fails for want of a server.
        while let Some(mut process) = self.processes.pop() {
            process.end(END_LIMIT)?;
        }
        Ok(())
    }

    /// Removes the cgroups, and with them whatever should still run there.
    pub fn remove(&mut self) -> Result<()> {
        self.hospital.remove()?;
        self.outside.remove()?;
        self.whole.remove()
    }

    fn serve(
        &mut self,
        name: &str,
        inside: bool,
        program: &Path,
        args: &[&str],
        port: u16,
        interrupt: &Interrupt,
    ) -> Result<()> {
        self.start(name, inside, program, args)?;
        match self.processes.last_mut() {
            Some(process) => process.wait_until(READY_LIMIT, interrupt, || children::accepts(port)),
            None => Ok(()),
        }
    }

    fn start(&mut self, name: &str, inside: bool, program: &Path, args: &[&str]) -> Result<()> {
        let cgroup = if inside { &self.hospital } else { &self.outside };
        let log = self.folder.join(format!("{name}.log"));
        let how = Start {
            name: &format!("the demo's {name}"),
            log: Some(&log),
            cgroup: Some(&cgroup.path),
            own_group: true,
        };
        self.processes.push(Process::start(&how, program, args)?);
        Ok(())
    }

    /// A key and a certificate signed by itself, for two days.
    fn make_certificate(&self) -> Result<String> {
        let certificate = self.folder.join("hospital.pem");
        let mut command = Command::new(program("openssl")?);
        command
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
            ])
            .args(["-days", "2", "-subj", "/CN=ehr.hospital.example"])
            .args(["-addext", "subjectAltName=DNS:ehr.hospital.example,IP:127.0.0.1"])
            .arg("-keyout")
            .arg(self.folder.join("hospital.key"))
            .arg("-out")
            .arg(&certificate);
        sh::read(&mut command)?;
        Ok(as_text(certificate))
    }

    fn write_nginx_conf(&self, app: u16, clear: u16, tls: u16) -> Result<String> {
        let conf = self.folder.join("nginx.conf");
        let text = std::fs::read_to_string(asset("nginx.conf"))?
            .replace("@FOLDER@", &self.folder.to_string_lossy())
            .replace("@APP@", &app.to_string())
            .replace("@CLEAR@", &clear.to_string())
            .replace("@TLS@", &tls.to_string());
        std::fs::write(&conf, text)?;
        Ok(as_text(conf))
    }
}

fn asset(name: &str) -> PathBuf {
    sh::root().join("xtask/assets/demo").join(name)
}

fn program(name: &str) -> Result<PathBuf> {
    sh::which(name).with_context(|| format!("{name} is missing: `cargo xtask setup --demo`"))
}

fn as_text(path: PathBuf) -> String {
    path.to_string_lossy().into_owned()
}
