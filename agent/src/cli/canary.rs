//! `apiward canary`, which `apiward prove` starts: one end of a canary's connection, in the cgroup that it belongs to.
//!
//! What comes on standard input goes to the connection, what comes from it to standard output: whoever has started it is
//! the application. In a process of its own, because a socket belongs to the cgroup that its process was in, and because
//! the agent's own connections are exempt.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

#[derive(clap::Args)]
pub struct Args {
    /// The cgroup to be in, if another.
    #[arg(long, value_name = "DIR")]
    cgroup: Option<PathBuf>,
    #[command(subcommand)]
    end: End,
}

#[derive(clap::Subcommand)]
enum End {
    /// Takes one connection, on a port of the kernel's choosing.
    Listen,
    /// Connects.
    Connect { port: u16 },
    /// Becomes another program, in a file system of which this is the root.
    Exec {
        #[arg(long, value_name = "DIR")]
        root: Option<PathBuf>,
        #[arg(required = true, last = true)]
        program: Vec<OsString>,
    },
}

/// Bytes moved at once.
const CHUNK: usize = 64 << 10;

pub fn run(args: Args) -> Result<ExitCode> {
    // Whoever has started it may be killed: nothing stays behind. It also holds for what it becomes.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    if let Some(cgroup) = args.cgroup {
        let list = cgroup.join("cgroup.procs");
        std::fs::write(&list, std::process::id().to_string())
            .with_context(|| format!("{} cannot be written", list.display()))?;
    }
    match args.end {
        End::Listen => {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            let (stream, _) = listener.accept()?;
            drop(listener);
            talk(stream)?;
        }
        End::Connect { port } => talk(TcpStream::connect((Ipv4Addr::LOCALHOST, port))?)?,
        End::Exec { root, program } => {
            if let Some(root) = root {
                std::os::unix::fs::chroot(&root)
                    .with_context(|| format!("{} cannot be entered", root.display()))?;
                std::env::set_current_dir("/")?;
            }
            let (name, arguments) = program.split_first().context("no program is named")?;
            let error = Command::new(name).args(arguments).exec();
            return Err(error).with_context(|| format!("{} cannot be started", name.display()));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Until the other end closes or resets the connection.
fn talk(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut out = stream.try_clone()?;
    // Ends with the process.
    std::thread::spawn(move || {
        let _ = pass(&mut io::stdin().lock(), &mut out);
        let _ = out.shutdown(Shutdown::Write);
    });
    pass(&mut stream, &mut io::stdout().lock())
}

fn pass(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let count = match from.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        to.write_all(&chunk[..count])?;
        to.flush()?;
    }
}
